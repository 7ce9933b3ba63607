import os
import signal

import jax
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.parallel.mesh import make_mesh
from gen_jax.training import logging, loop
from tests.training.test_step import FSDP
from tests.training.toy import ToyTask, batches


def score(variables, step, check):
    check()
    return {"toy/score": float(step)}


def make_run(workdir, num_steps=12, source=batches, evaluate=score, **changes):
    schedule = {"batch_size": 16, "log_every": 4, "checkpoint_every": 4, "max_nonfinite": 3}
    return loop.Run(
        name="toy",
        task=ToyTask(),
        schedule=loop.Schedule(num_steps=num_steps, **(schedule | changes)),
        optimizer={
            "model": {"learning_rate": 0.05, "schedule": "constant", "warmup_steps": 0, "b2": 0.999}
        },
        mesh=make_mesh({}, jax.devices()[:1]),
        rules=FSDP,
        workdir=workdir,
        batches=source,
        keys=lambda indices: [f"record-{i}" for i in indices],
        frozen={},
        evaluate=evaluate,
        meta={"data": "toy"},
        writer=logging.MetricWriter(workdir),
    )


def poisoned(steps):
    """Batches that are not finite at some steps (counted from 0)."""

    def source(start):
        for step, batch in enumerate(batches(start), start):
            if step in steps:
                batch["x"] = batch["x"] * np.nan
            yield batch

    return source


def test_runs_logs_and_reports(tmp_path, capsys):
    trained = loop.train(make_run(tmp_path, best_metric="toy/score", best_mode="max"))
    assert trained.metrics == {"toy/score": 12.0}
    assert trained.best_step == trained.last_step == 12
    lines = logging.read_metrics(tmp_path)
    losses = [line["model/loss"] for line in lines if "model/loss" in line]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert {"images_per_second", "step_ms", "data_wait"} <= set(lines[0])
    assert list(tmp_path.glob("events.out.tfevents.*"))
    out = capsys.readouterr().out
    assert "parameters of 'model': 1,153" in out and "images/s" in out and " s left" in out


def test_a_finished_run_is_only_evaluated(tmp_path, capsys):
    loop.train(make_run(tmp_path))
    before = (tmp_path / "metrics.jsonl").read_text()
    trained = loop.train(make_run(tmp_path))
    assert trained.metrics == {"toy/score": 12.0}
    assert "resumed from step 12" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("mode, best", [("max", 12), ("min", 4)])
def test_sigterm_ends_an_evaluation_which_the_next_start_makes_up_for(tmp_path, mode, best):
    seen = []

    def left(variables, step, check):
        seen.append(step)
        if step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(variables, step, check)

    how = {"eval_every": 4, "best_metric": "toy/score", "best_mode": mode}
    with pytest.raises(loop.Preempted, match="saved at step 12"):
        loop.train(make_run(tmp_path, evaluate=left, **how))
    assert seen == [4, 8, 12]
    with pytest.raises(loop.Preempted, match="saved at step 12"):  # and once more
        loop.train(make_run(tmp_path, evaluate=left, **how))
    trained = loop.train(make_run(tmp_path, **how))
    assert trained.metrics == {"toy/score": 12.0}
    assert trained.last_step == 12 and trained.best_step == best
    lines = logging.read_metrics(tmp_path)
    assert [x["step"] for x in lines if "toy/score" in x] == [4, 8, 12]


def test_lines_after_the_checkpoint_are_written_once(tmp_path):
    loop.train(make_run(tmp_path, num_steps=8))
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write('{"step": 9, "time": 0, "model/loss": 1.0}\n{"step": 10, "ti')
    loop.train(make_run(tmp_path, num_steps=12))
    steps = [line["step"] for line in logging.read_metrics(tmp_path) if "model/loss" in line]
    assert steps == [4, 8, 12]


def test_nonfinite_steps_are_skipped_and_named(tmp_path, capsys):
    trained = loop.train(make_run(tmp_path, source=poisoned({5, 9})))
    out = capsys.readouterr().out
    assert "step 6: loss or gradient is not finite, skipped (records record-80, record-81" in out
    assert "step 10:" in out
    assert logging.read_metrics(tmp_path)[-2]["skipped_steps"] == 2
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(trained.state.params))


def test_too_many_nonfinite_steps_stop_the_run(tmp_path):
    with pytest.raises(UserError) as stop:
        loop.train(make_run(tmp_path, num_steps=30, source=poisoned(range(9, 30))))
    text = str(stop.value)
    assert "step 12: 3 steps in a row" in text
    assert "record-176" in text and "last good checkpoint is 8" in text


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"batch_size": 0}, "at least 1"),
        ({"accumulation_steps": 3}, "multiple of"),
        ({"log_every": 0}, "log_every=0: expected a whole number of at least 1"),
        ({"seed": 2**32}, "seed=4294967296: expected a whole number from 0 to 4294967295"),
        ({"ema_groups": ("modle",)}, "ema_groups: no parameter group 'modle'"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path, changes, word):
    with pytest.raises(UserError, match=word):
        loop.train(make_run(tmp_path, **changes))


def test_data_that_does_not_fit_the_task(tmp_path):
    def narrow(start):
        for batch in batches(start):
            yield batch | {"x": batch["x"][:, :4]}

    with pytest.raises(UserError, match=r"'x' is float32\[4\], but the task reads float32\[16\]"):
        loop.train(make_run(tmp_path, source=narrow))


def test_unknown_parameter_group(tmp_path):
    run = make_run(tmp_path)
    run.optimizer = {"generator": {}}
    with pytest.raises(UserError, match="no parameter group 'generator'"):
        loop.train(run)


def test_a_pattern_that_freezes_nothing(tmp_path):
    run = make_run(tmp_path)
    run.optimizer = {"model": {"freeze": "encoder"}}
    with pytest.raises(UserError, match="freeze='encoder' matches no parameter; they are called"):
        loop.train(run)


def test_a_run_begins_from_another_one(tmp_path, capsys):
    first = loop.train(make_run(tmp_path / "a"))
    params = jax.device_get(first.state.params)
    del params["model"]["layers_2"]["bias"]
    run = make_run(tmp_path / "b", num_steps=1, ema=0.5, ema_groups=("model",))
    run.init = ("runs/a", {"params": params})
    warm = loop.train(run)
    out = capsys.readouterr().out
    assert "took 3 of 4 parameters from runs/a; new are model/layers_2/bias" in out
    kernel = np.asarray(warm.state.params["model"]["layers_0"]["kernel"])
    moved = np.abs(kernel - params["model"]["layers_0"]["kernel"]).max()
    assert 0 < moved < 0.06, "one step of Adam from where it began"
    lines = [[m for m in logging.read_metrics(tmp_path / k) if "model/loss" in m] for k in "ab"]
    assert lines[1][0]["model/loss"] < lines[0][0]["model/loss"]
    # A resumed run does not begin again.
    run = make_run(tmp_path / "b", num_steps=2, ema=0.5, ema_groups=("model",))
    run.init = ("runs/a", {"params": params})
    loop.train(run)
    assert "resumed from step 1" in (out := capsys.readouterr().out) and "took 3" not in out


def test_a_run_that_has_nothing_to_give_is_named(tmp_path):
    run = make_run(tmp_path)
    kernel = {"layers_0": {"kernel": np.zeros((3, 3))}}
    run.init = ("package:other", {"params": {"model": kernel}})
    with pytest.raises(UserError, match="init_from=package:other: none of its parameters"):
        loop.train(run)


def test_parameters_are_counted_in_whole_numbers(capsys):
    loop._print_overview({"model": {"scale": np.zeros(()), "kernel": np.zeros((50, 30))}})
    assert capsys.readouterr().out.splitlines() == [
        "parameters of 'model': 1,501", "  scale 1, kernel 1,500",
    ]  # fmt: skip
