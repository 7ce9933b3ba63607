"""Runs in epochs: kept checkpoints, metrics.json, early stopping, evaluators at the end."""

import json
import math
import os
import signal
from fractions import Fraction

import jax
import numpy as np
import pytest

from configs import vae
from gen_jax.common.errors import UserError
from gen_jax.training import checks, defaults, logging, loop, optim, stage
from tests.training.test_loop import make_run
from tests.training.toy import batches

COSINE = {"model": {"learning_rate": 0.05, "schedule": "cosine", "warmup_steps": 0}}
SCORES = {2: 3.0, 4: 1.0, 6: 2.0, 8: math.nan, 10: 0.5, 12: 0.4}


def in_epochs(workdir, source=batches):
    """A run of four epochs of two and a half steps."""
    epochs = {"num_epochs": 4.0, "eval_every_epochs": 1.0, "keep_every_epochs": 2.0}
    run = make_run(workdir, 1000, source, keep=1, checkpoint_every=1, log_every=1, **epochs)
    run.num_records, run.optimizer = 40, COSINE
    run.writer = logging.MetricWriter(workdir, tensorboard=False, steps_per_epoch=Fraction(40, 16))
    return run


def killed_at(step):
    """Batches that end with an error, as a crash does."""

    def source(start):
        for number, batch in enumerate(batches(start), start + 1):
            if number == step:
                raise RuntimeError("killed")
            yield batch

    return source


def entries(workdir):
    """What metrics.json holds, without what depends on the clock."""
    read = json.loads((workdir / "metrics.json").read_text())
    keys = ("epoch", "step", "model/loss", "model/learning_rate", "toy/score", "skipped_steps")
    return [{key: entry[key] for key in keys} for entry in read]


def test_epochs_become_steps_and_lines_and_entries_after_a_crash_as_well(tmp_path, capsys):
    whole = loop.train(in_epochs(tmp_path / "whole"))
    lines = logging.read_metrics(tmp_path / "whole")
    assert whole.last_step == 10 and "toy 10/10, epoch 4.00" in capsys.readouterr().out
    assert all(line["epoch"] == pytest.approx(line["step"] * 0.4) for line in lines)
    assert [line["step"] for line in lines if "toy/score" in line] == [3, 5, 8, 10]
    rates = [line["model/learning_rate"] for line in lines if "model/loss" in line]
    schedule = optim.make_schedule(COSINE["model"], 10)
    assert rates == [pytest.approx(float(schedule(step))) for step in range(1, 11)]
    folders = {p.name for p in (tmp_path / "whole" / "checkpoints").iterdir() if p.name.isdigit()}
    assert folders == {"5", "10"}

    table = entries(tmp_path / "whole")
    assert [(e["epoch"], e["step"], e["toy/score"]) for e in table] == [
        (1, 3, 3.0), (2, 5, 5.0), (3, 8, 8.0), (4, 10, 10.0),
    ]  # fmt: skip
    losses = [line["model/loss"] for line in lines if "model/loss" in line]
    assert table[2]["model/loss"] == pytest.approx(np.mean(losses[5:8]))

    # Before any checkpoint and after some, each time with lines that no checkpoint has.
    for step, late in ((1, 5), (7, 9)):
        with pytest.raises(RuntimeError, match="killed"):
            loop.train(in_epochs(tmp_path / "crashed", killed_at(step)))
        in_epochs(tmp_path / "crashed").writer.scalars(late, {"model/loss": 9, "skipped_steps": 0})
    crashed = loop.train(in_epochs(tmp_path / "crashed"))
    assert entries(tmp_path / "crashed") == table
    same(whole.state, crashed.state)


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_lines_of_a_run_without_a_checkpoint_are_forgotten(tmp_path):
    in_epochs(tmp_path).writer.scalars(4, {"model/loss": 1.0, "skipped_steps": 0})
    assert len(entries_of := json.loads((tmp_path / "metrics.json").read_text())) == 1
    assert entries_of[0]["epoch"] == 2
    in_epochs(tmp_path).writer.rewind(0)
    assert json.loads((tmp_path / "metrics.json").read_text()) == []
    assert logging.read_metrics(tmp_path) == []


def test_a_line_counts_by_its_steps(tmp_path):
    writer = logging.MetricWriter(tmp_path, tensorboard=False, steps_per_epoch=Fraction(10))
    for step, value in ((3, 1.0), (4, 5.0), (13, 7.0)):
        writer.scalars(step, {"model/loss": value, "skipped_steps": step})
    writer.scalars(13, {"toy/score": math.inf})
    first, second = json.loads((tmp_path / "metrics.json").read_text())
    assert first == {"epoch": 1, "step": 4, "model/loss": 2.0, "skipped_steps": 4.0}
    assert second["model/loss"] == 7.0 and second["toy/score"] == "Infinity"


def patient(workdir, source=batches, at_end=lambda *_: {"toy/final": 1.0}, **changes):
    """A run of 12 steps whose evaluations at 6 and at 8 are no better than the one at 4."""
    given = {"eval_every": 2, "patience": 2, "best_metric": "toy/score", "keep": 1, **changes}
    run = make_run(workdir, 12, source, lambda v, step, c: {"toy/score": SCORES[step]}, **given)
    run.evaluate_at_end = at_end
    return run


def terminated_at(step):
    """Batches that come with a SIGTERM."""

    def source(start):
        for number, batch in enumerate(batches(start), start + 1):
            if number == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    return source


def test_patience_ends_a_run_at_the_same_step_after_a_resume(tmp_path, capsys):
    whole = loop.train(patient(tmp_path / "whole"))
    assert (whole.last_step, whole.best_step, int(whole.state.step)) == (8, 4, 8)
    assert whole.metrics["toy/final"] == 1.0 and math.isnan(whole.metrics["toy/score"])
    assert (
        "toy: stopped at step 8 of 12: no better toy/score in 2 evaluations "
        "(config.training.patience=2); the best is 1 at step 4\n"
    ) in capsys.readouterr().out
    lines = logging.read_metrics(tmp_path / "whole")
    assert [x["step"] for x in lines if "toy/final" in x] == [8]

    # At the first evaluation that is no better, which is made up for, and before the second one.
    for batch, step in ((7, 6), (8, 7)):
        with pytest.raises(loop.Preempted, match=f"saved at step {step}"):
            loop.train(patient(tmp_path / "resumed", terminated_at(batch)))
    resumed = loop.train(patient(tmp_path / "resumed"))
    assert (resumed.last_step, resumed.best_step) == (8, 4)
    same(whole.state, resumed.state)
    # A run that has ended stays at its end.
    again = loop.train(patient(tmp_path / "resumed", killed_at(9)))
    same(whole.state, again.state)
    assert logging.read_metrics(tmp_path / "resumed")[-1]["step"] == 8


def test_the_best_evaluation_may_be_one_that_sigterm_cut(tmp_path):
    with pytest.raises(loop.Preempted, match="saved at step 4"):
        loop.train(patient(tmp_path, terminated_at(5)))
    trained = loop.train(patient(tmp_path))
    assert (trained.last_step, trained.best_step) == (8, 4)
    assert (tmp_path / "checkpoints" / "4").is_dir()


def test_a_better_evaluation_starts_the_count_again_and_max_turns_it_round(tmp_path):
    trained = loop.train(patient(tmp_path / "min", patience=3))
    assert trained.last_step == 12 and trained.metrics == {"toy/score": 0.4, "toy/final": 1.0}
    assert loop.train(patient(tmp_path / "max", best_mode="max")).last_step == 6


def test_sigterm_in_the_last_evaluation_leaves_the_run_at_its_end(tmp_path):
    def left(variables, step, check):
        os.kill(os.getpid(), signal.SIGTERM)
        check()

    with pytest.raises(loop.Preempted, match="saved at step 8"):
        loop.train(patient(tmp_path, at_end=left))
    trained = loop.train(patient(tmp_path))
    assert trained.last_step == 8 and trained.metrics["toy/final"] == 1.0


def recipe(photos, **changes):
    config = defaults.complete(vae.get_config(f"debug,data={photos}"))
    config.tensorboard = False
    config.training.update(num_steps=9, batch_size=8, log_every=1, **changes)
    with config.unlocked():
        config.evaluators = dict(
            reconstruction=dict(count=8, batch_size=8),
            validation_loss=dict(count=12, batch_size=8, at_end=True),
        )
    return config


def test_a_stage_measures_at_its_end_what_is_for_the_end_alone(photos, tmp_path):
    records = json.loads((photos / "dataset.json").read_text())["splits"]["train"]["records"]
    epochs = 2 * 8 / records  # two steps
    config = recipe(photos, num_epochs=epochs, eval_every_epochs=epochs / 2)
    assert stage.run(config, tmp_path) == 0
    lines = logging.read_metrics(tmp_path)
    assert [x["step"] for x in lines if "vae/psnr" in x] == [1, 2]
    assert [x["step"] for x in lines if "vae/validation_loss" in x] == [2]
    assert all(x["epoch"] == pytest.approx(x["step"] * epochs / 2, abs=1e-4) for x in lines)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"vae/psnr", "vae/validation_loss"} <= report.keys()
    (entry,) = json.loads((tmp_path / "metrics.json").read_text())
    assert entry["vae/validation_loss"] == report["vae/validation_loss"]
    page = (tmp_path / "report.html").read_text()
    assert "Training loss on held-out images." in page and "Peak signal-to-noise ratio" in page


def test_configs_that_cannot_work_are_refused_before_any_work(photos, tmp_path):
    late = {"patience": 2, "eval_every": 1, "best_metric": "vae/validation_loss"}
    config = recipe(photos, **late)
    with config.unlocked():
        del config.evaluators["reconstruction"]
    with pytest.raises(UserError, match="patience=2 needs best_metric=vae/validation_loss at each"):
        checks.check_config(config, tmp_path)
    with config.unlocked():
        config.evaluators = dict(validation_loss=dict(at_end="yes"))
    with pytest.raises(UserError, match=r"validation_loss\.at_end='yes': expected True or False"):
        checks.check_config(config, tmp_path)
    with pytest.raises(UserError, match=r"eval_every_epochs=0\.001: the interval is less than one"):
        checks.check_config(recipe(photos, eval_every_epochs=0.001), tmp_path)
