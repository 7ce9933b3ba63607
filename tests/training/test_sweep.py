"""Sweeps: spaces are read and checked; trials run, stop, fail, resume and share their work."""

import json
import os
import signal
import subprocess
import sys
import time

import ml_collections
import pytest

from gen_jax.common.errors import UserError
from gen_jax.common.process_id import ProcessId
from gen_jax.training import search_space, sweep, sweep_report
from tests.forks import call
from tests.processes import ROOT, environment

CONFIG = ml_collections.ConfigDict({"task": {"beta": 0.25, "width": 8, "shape": (1, 2)}})

# Stands for `gen_jax.main`: scores are near 1 where beta is near 0.5; it writes what main writes.
PROGRAM = """
import json, pathlib, sys, time
values = dict(a.removeprefix("--config.").split("=", 1) for a in sys.argv[1:] if "=" in a)
folder = pathlib.Path(values["--workdir"])
beta = float(values["task.beta"])
with open(folder / "starts", "a") as f:
    f.write("x")
if beta == 9.0:
    print("error: no such beta", file=sys.stderr)
    sys.exit(2)
steps = int(values.get("steps", 3))
with open(folder / "metrics.jsonl", "a") as f:
    for step in range(1, steps + 1):
        score = (1.0 - abs(beta - 0.5)) * step / steps
        f.write(json.dumps({"step": step, "toy/score": score}) + chr(10))
        f.flush()
        time.sleep(float(values.get("pause", 0.0)))
(folder / "config.json").write_text(json.dumps({"beta": beta}))
(folder / "report.json").write_text(json.dumps({"toy/score": 1.0 - abs(beta - 0.5)}))
"""


def space(tmp_path, **fields):
    path = tmp_path / "space.json"
    path.write_text(json.dumps(fields))
    return search_space.read(path, CONFIG)


def plan(tmp_path, dimensions, arguments=(), **more):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    values = dict(
        name="", trials=100, metric="toy/score", mode="max", prune=False, warmup=0, seed=0
    )
    return sweep.Plan(
        arguments=tuple(arguments), space=dimensions, out=out,
        program=(sys.executable, str(program)), **{**values, **more},
    )  # fmt: skip


def states(study):
    return [t.state.name for t in study.get_trials()]


def test_a_grid_is_gone_through_and_reported(tmp_path):
    dims = space(tmp_path, **{"task.beta": [0.1, 0.5], "task.width": [4, 8]})
    p = plan(tmp_path, dims)
    study = sweep.run(p, workers=2)
    assert states(study) == ["COMPLETE"] * 4
    assert {(t.params["task.beta"], t.params["task.width"]) for t in study.trials} == {
        (0.1, 4), (0.1, 8), (0.5, 4), (0.5, 8)
    }  # fmt: skip
    written = sweep_report.write(study, p)
    assert [w.name for w in written] == ["table.csv", "table.md", "plot.png", "best.json"]
    assert json.loads((p.out / "best.json").read_text()) == {"beta": 0.5}
    rows = (p.out / "table.csv").read_text().splitlines()
    assert rows[0] == "trial,task.beta,task.width,toy/score,state" and len(rows) == 5
    assert rows[1].split(",")[1] == "0.5" and rows[-1].split(",")[1] == "0.1"
    assert (p.out / "plot.png").stat().st_size > 5000
    # Nothing is left to do.
    assert len(sweep.run(p, workers=1).trials) == 4
    assert all((f / "starts").read_text() == "x" for f in (p.out / "trials").iterdir())


def test_tuples_reach_the_trial_once_its_folder_is_free(tmp_path, monkeypatch):
    # The process of a trial outlives its sweep, which was killed.
    answers = [ProcessId.current()] * 2
    monkeypatch.setattr(sweep.folder_lock, "holder", lambda _: answers.pop() if answers else None)
    monkeypatch.setattr(sweep, "_LOOK_EVERY", 0.05)
    dims = space(tmp_path, **{"task.beta": [0.5], "task.shape": [[1, 2], [3, 4]]})
    study = sweep.run(plan(tmp_path, dims), workers=1)
    assert states(study) == ["COMPLETE"] * 2 and not answers
    assert search_space.as_flags({"task.shape": (3, 4)}) == ["--config.task.shape=(3, 4)"]


def test_a_study_searches_a_range(tmp_path):
    dims = space(tmp_path, **{"task.beta": {"low": 0.0, "high": 2.0}})
    study = sweep.run(plan(tmp_path, dims, name="s", trials=12), workers=2)
    betas = [t.params["task.beta"] for t in study.trials]
    assert len(set(betas)) == 12 and all(0.0 <= b <= 2.0 for b in betas)
    assert abs(study.best_params["task.beta"] - 0.5) < 0.5


def test_a_poor_trial_is_stopped(tmp_path):
    dims = space(tmp_path, **{"task.beta": [0.5, 0.45, 0.55, 2.0]})
    p = plan(tmp_path, dims, ["--config.steps=6", "--config.pause=0.7"], prune=True)
    study = sweep.run(p, workers=1)
    assert states(study) == ["COMPLETE"] * 3 + ["PRUNED"]
    poor = p.out / "trials" / "0003"
    assert not (poor / "report.json").exists()
    assert len((poor / "metrics.jsonl").read_text().splitlines()) < 6
    sweep_report.write(study, p)
    assert "stopped early" in (p.out / "table.md").read_text()


def test_a_trial_that_fails_is_named_and_the_others_go_on(tmp_path, capsys):
    dims = space(tmp_path, **{"task.beta": [9.0, 0.5]})
    p = plan(tmp_path, dims)
    study = sweep.run(p, workers=1)
    assert states(study) == ["FAIL", "COMPLETE"]
    assert "failed (error: no such beta)" in capsys.readouterr().out
    assert len(sweep.run(p, workers=1).trials) == 2, "it is not tried for ever"


def process_of(plan):
    """Another process that runs the plan's sweep."""
    text = repr(plan).replace("PosixPath", "pathlib.PosixPath").replace("Plan(", "sweep.Plan(", 1)
    code = "; ".join((
        "import pathlib", "from gen_jax.training import sweep",
        "from gen_jax.training.search_space import Dimension", f"sweep.run({text}, 1)",
    ))  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment())


def test_what_was_cut_off_is_taken_up_again_in_its_folder(tmp_path):
    dims = space(tmp_path, **{"task.beta": [0.4, 0.5]})
    p = plan(tmp_path, dims, ["--config.steps=4", "--config.pause=1.0"])
    process = process_of(p)
    started, deadline = p.out / "trials" / "0000" / "metrics.jsonl", time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    study = sweep.run(p, workers=1)
    again = study.trials[-1]
    assert states(study).count("COMPLETE") == 2 and study.trials[0].state.name == "FAIL"
    assert again.user_attrs["again_of"] == 0 and again.user_attrs["folder"] == "0000"
    assert again.params == study.trials[0].params
    assert (p.out / "trials" / "0000" / "starts").read_text() == "xx"
    sweep_report.write(study, p)
    assert len((p.out / "table.csv").read_text().splitlines()) == 3


def test_two_processes_share_a_grid(tmp_path):
    dims = space(tmp_path, **{"task.beta": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    p = plan(tmp_path, dims, ["--config.pause=0.2"])
    both = [process_of(p), process_of(p)]
    assert [b.wait(120) for b in both] == [0, 0]
    study = sweep.open_study(p)
    assert states(study) == ["COMPLETE"] * 6
    assert len({t.user_attrs["process"]["pid"] for t in study.trials}) == 2
    assert all((f / "starts").read_text() == "x" for f in (p.out / "trials").iterdir())


def test_another_sweep_in_the_same_folder_is_refused(tmp_path):
    sweep.run(plan(tmp_path, space(tmp_path, **{"task.beta": [0.5]})), workers=1)
    with pytest.raises(UserError, match="another config, space or metric"):
        sweep.run(plan(tmp_path, space(tmp_path, **{"task.beta": [0.4]})), workers=1)


@pytest.mark.parametrize("text,words", [
    ("{", "is not JSON"), ("[]", "expected an object"), ("{}", "expected an object"),
    ('{"task.gone": [1]}', "no 'gone'"), ('{"task.beta.x": [1]}', "no 'x'"),
    ('{"task.beta": []}', "a list of values"), ('{"task.beta": {"low": 1}}', "a list of values"),
    ('{"task.beta": {"low": 2, "high": 1}}', "not below"),
    ('{"task.beta": {"low": 0, "high": 1, "log": true}}', "above 0"),
    ('{"task.beta": {"low": "a", "high": 1}}', "must be numbers"),
])  # fmt: skip
def test_a_wrong_space_is_refused(tmp_path, text, words):
    path = tmp_path / "space.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        search_space.read(path, CONFIG)


def test_a_grid_of_a_range_is_refused(tmp_path):
    dims = space(tmp_path, **{"task.beta": {"low": 0, "high": 1}})
    with pytest.raises(UserError, match="name a study"):
        list(search_space.grid(dims))


@pytest.mark.parametrize("flags,words", [
    (["--space=gone.json", "--out=o"], "gone.json"), (["--out=o"], "--space is missing"),
    (["--space=s.json"], "--out is missing"),
    (["--space=s.json", "--out=o", "--trials=0"], "--trials=0"),
    (["--space=s.json", "--out=o", "--study=x"], "--trials is missing"),
])  # fmt: skip
def test_the_door_refuses_in_one_line(tmp_path, flags, words):
    (tmp_path / "s.json").write_text('{"task.beta": [0.1]}')
    flags = [f.replace("s.json", str(tmp_path / "s.json")).replace("=o", f"={tmp_path}/o")
             for f in flags]  # fmt: skip
    done = call("sweep", "--config=configs/vqvae.py:debug", *flags)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_door_sweeps_a_recipe(tmp_path):
    # The seed changes no program, so the second trial finds that of the first in the cache.
    (tmp_path / "s.json").write_text('{"training.seed": [1, 2]}')
    flags = ["--config=configs/vqvae.py:debug", f"--space={tmp_path}/s.json", f"--out={tmp_path}/o"]
    done = call("sweep", *flags, "--config.training.num_steps=2")
    assert done.returncode == 0, done.stderr
    best = json.loads((tmp_path / "o" / "best.json").read_text())
    assert best["training"]["seed"] in (1, 2)
    assert best["training"]["num_steps"] == 2
    assert "vqvae/psnr" in done.stdout and done.stdout.count("finished") == 2
