"""What a run survives: kill -9 while it saves, SIGTERM, a second writer, other hosts, damage."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests import processes
from tests.forks import call, call_each
from tests.processes import (
    environment,
    final_fingerprint,
    finish,
    losses,
    one_line_error,
    start,
    start_group,
)

STEPS = 30


def arguments(workdir, photos, steps=STEPS):
    return [
        f"--config=tests/tiny_run.py:{steps}",
        f"--workdir={workdir}",
        f"--config.data.dir={photos}",
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, photos):
    """A run that nothing interrupted: its folder, loss by step and final fingerprint."""
    workdir = tmp_path_factory.mktemp("straight") / "run[1] *?"  # characters of patterns, too
    result = call("main", *arguments(workdir, photos))
    assert result.returncode == 0, result.stderr[-2000:]
    return workdir, losses(workdir), final_fingerprint(workdir)


def wait_for_step(workdir, process, at_least=1):
    """Waits until the run has logged a step, or has ended."""
    path = workdir / "metrics.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and path.read_text().count("\n") >= at_least:
            return
        time.sleep(0.005)


def unfinished_saves(workdir):
    """Folders of saves under way, or of ones that were cut off."""
    found = set()
    for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"):
        with contextlib.suppress(FileNotFoundError):  # the save has just been finished
            found.add((path.name, path.stat().st_ino))
    return found


def kill_at_saves(workdir, photos, kills, seed):
    """Kills the run with -9 as it begins to save, several times; returns how many saves it cut."""
    rng, cut = random.Random(seed), 0
    for kill in range(kills):
        before = unfinished_saves(workdir)
        process = start("main", *arguments(workdir, photos))
        while process.poll() is None and not unfinished_saves(workdir) - before:
            time.sleep(0.0005)
        if kill:  # the first one at once, so that at least one save is cut
            time.sleep(rng.choice((0.0, rng.uniform(0.0, 0.1))))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cut += bool(unfinished_saves(workdir) - before)
        if process.returncode == 0:
            break
    return cut


def check_kills(tmp_path, photos, straight, kills, seed):
    _, want_losses, want = straight
    assert kill_at_saves(tmp_path, photos, kills, seed) >= 1
    result = call("main", *arguments(tmp_path, photos))
    assert result.returncode == 0, result.stderr[-2000:]
    assert not unfinished_saves(tmp_path) and not list(tmp_path.glob("checkpoints/*.damaged*"))
    assert final_fingerprint(tmp_path) == want
    # The same loss at each step means the same batch and the same keys.
    assert losses(tmp_path) == want_losses


def test_kill_while_saving(tmp_path, photos, straight):
    check_kills(tmp_path, photos, straight, kills=2, seed=0)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(1, marks=pytest.mark.slow),
        *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 9)),
    ],
)
def test_kill_while_saving_many_times(tmp_path, photos, straight, seed):
    check_kills(tmp_path, photos, straight, kills=6, seed=seed)


def test_sigterm_saves_and_exits_0(tmp_path, photos, straight):
    process = start("main", *arguments(tmp_path, photos))
    wait_for_step(tmp_path, process, 5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    assert "SIGTERM: saved at step" in out
    result = call("main", *arguments(tmp_path, photos))
    assert result.returncode == 0 and "resumed from step" in result.stdout
    assert final_fingerprint(tmp_path) == straight[2]
    assert losses(tmp_path) == straight[1]


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_ends_a_long_evaluation(tmp_path, photos, count):
    rest = arguments(tmp_path, photos)[1:]
    group = start_group(count, "--config=tests/slow_evaluation.py:5", *rest)
    wait_for_step(tmp_path, group[0], 5)
    # Meanwhile, a second writer is refused at once and does no harm.
    refused = one_line_error(call("main", "--config=tests/slow_evaluation.py:5", *rest))
    assert f"{tmp_path} is being written by pid {group[0].pid} on " in refused
    for process in group:
        process.send_signal(signal.SIGTERM)
    assert "SIGTERM: saved at step 5" in finish(group)[0]
    result = call("main", "--config=tests/tiny_run.py:5", *rest)
    assert result.returncode == 0 and "resumed from step 5" in result.stdout, result.stderr[-2000:]
    assert sorted(losses(tmp_path)) == [1, 2, 3, 4, 5] and (tmp_path / "done.json").exists()


def workers_of(process):
    """Process ids of the worker processes that read its data."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [
        pid
        for pid in map(int, found.stdout.split())
        if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def gone(pids):
    """Whether all end within some seconds."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


has_proc = pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="looks at /proc")
WORKERS = "--config.data.num_workers=2"


@has_proc
@pytest.mark.slow
def test_workers_leave_with_the_trainer_and_are_missed(tmp_path, photos):
    for end in ("trainer", "worker"):
        process = start("main", *arguments(tmp_path / end, photos, 5000), WORKERS)
        wait_for_step(tmp_path / end, process, 3)
        workers = workers_of(process)
        assert len(workers) == 2
        if end == "trainer":
            process.send_signal(signal.SIGKILL)
            process.communicate()
        else:
            os.kill(workers[1], signal.SIGKILL)  # as the system does where memory runs out
            _, err = process.communicate(timeout=120)
            assert process.returncode == 2 and err.startswith("error: a worker process"), err
            assert "fewer data.num_workers" in err and "Traceback" not in err
        assert gone(workers)


@has_proc
@pytest.mark.slow
def test_workers_change_nothing_and_let_the_trainer_save(tmp_path, photos, straight):
    process = start("main", *arguments(tmp_path, photos), WORKERS)
    wait_for_step(tmp_path, process, 3)
    workers = workers_of(process)
    for pid in (*workers, process.pid):  # a cluster's SIGTERM goes to all at once
        os.kill(pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "SIGTERM: saved at step" in out, err[-2000:]
    assert gone(workers)
    result = call("main", *arguments(tmp_path, photos), WORKERS)
    assert result.returncode == 0 and "resumed from step" in result.stdout, result.stderr[-2000:]
    assert final_fingerprint(tmp_path) == straight[2]
    assert losses(tmp_path) == straight[1]


def damage(step):
    """Flips a bit in every file of a checkpoint that may hold values, so also in those read."""
    for path in step.rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def test_damaged_newest_checkpoint_is_passed_over(tmp_path, photos, straight):
    run = shutil.copytree(straight[0], tmp_path / "run")
    damage(run / "checkpoints" / str(STEPS))
    result = call("main", *arguments(run, photos))
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"checkpoint {STEPS} is damaged" in result.stdout
    assert "resumed from step" in result.stdout
    assert final_fingerprint(run) == straight[2]


@pytest.mark.slow
def test_no_command_reads_a_damaged_run(tmp_path, photos, straight):
    run = shutil.copytree(straight[0], tmp_path / "run")
    for step in (run / "checkpoints").iterdir():
        damage(step)
    before = sorted(run.rglob("*"))
    out = f"--out={tmp_path / 'out'}"
    tiny, *rest = arguments(tmp_path / "other", photos)
    for command in (
        ["generate", f"--run={run}", "--num=1", out],
        ["evaluate", f"--run={run}", f"{out}.json"],
        ["export", f"--run={run}", out],
        ["featurize", f"--encoder=vae:{run}", f"--data={photos}", out],
        ["main", tiny, *rest, f"--config.init_from={run}"],
        ["main", f"--config=configs/ldm.py:debug,vae={run},data={photos}", rest[0]],
    ):
        error = one_line_error(call(*command))
        assert f"{run}/checkpoints: checkpoint {STEPS} is damaged (" in error, command
    assert sorted(run.rglob("*")) == before
    assert not list(tmp_path.glob("out*"))


def test_two_processes_equal_one(tmp_path, photos, straight):
    """And their checkpoint goes on in one process, on eight devices."""
    _, want, _ = straight
    finish(start_group(2, *arguments(tmp_path, photos, 20)))
    have = losses(tmp_path)
    assert [have[s] for s in range(1, 21)] == pytest.approx(
        [want[s] for s in range(1, 21)], rel=1e-5
    )
    for config in tmp_path.glob("config.json"):
        text = config.read_text().replace('"num_steps": 20', f'"num_steps": {STEPS}')
        config.write_text(text)
    eight = environment(devices=8)
    result = processes.call("main", *arguments(tmp_path, photos), env=eight)
    assert result.returncode == 0, result.stderr[-2000:]
    have = losses(tmp_path)
    assert sorted(have) == list(range(1, STEPS + 1))
    assert list(have.values()) == pytest.approx(list(want.values()), rel=1e-4)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path, photos):
    recipe = ("--config=configs/vae.py:debug", f"--config.data.dir={photos}")
    recipe += ("--config.data.source=", "--config.training.eval_every=0")
    finish(start_group(2, *recipe, f"--workdir={tmp_path / 'two'}"))
    one = call("main", *recipe, f"--workdir={tmp_path / 'one'}")
    assert one.returncode == 0, one.stderr[-2000:]
    want, have = (
        json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")
    )
    assert {"vae/psnr", "vae/ssim"} <= set(want)
    assert have == pytest.approx(want, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_one_process_goes_on_from_four(tmp_path, photos, straight):
    _, want, _ = straight
    group = start_group(4, *arguments(tmp_path, photos))
    wait_for_step(tmp_path, group[0], 10)
    for process in group:
        process.send_signal(signal.SIGTERM)
    finish(group)
    assert len(losses(tmp_path)) >= 10
    result = call("main", *arguments(tmp_path, photos))
    assert result.returncode == 0 and "resumed from step" in result.stdout
    have = losses(tmp_path)
    assert sorted(have) == list(range(1, STEPS + 1))
    assert list(have.values()) == pytest.approx(list(want.values()), rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_full_disk(tmp_path, photos):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        result = call("main", *arguments(place / "run", photos))
        assert "disk is full" in one_line_error(result)
        kept = [p.name for p in (place / "run" / "checkpoints").iterdir() if p.name.isdigit()]
        resumed = call("main", *arguments(place / "run", photos))
        assert "disk is full" in one_line_error(resumed)
        assert f"resumed from step {max(map(int, kept))}" in resumed.stdout
    finally:
        subprocess.run(["umount", str(place)], check=True)


MISTAKES = {
    "--config.training.num_stepz=3": "error: --config.training.num_stepz=3: the config has no key "
    "training.num_stepz; did you mean num_steps?",
    "--config.mesh.fsdp=3": "does not fit the 1 devices",
    "--config.training.batch_size=0": "at least 1",
    "--config.optimizer.model.name=sgd": "sgd",
    "--config.data.dir=/nonexistent": "prepare the data first",
    "--config.data.source=photos": "either an embedded source",
    "--config.sharding.rules=()": "no rule matches",
    "--config.data.max_length=x": "error: --config.data.max_length=x: expected a whole number; "
    "the config has 32",
}


def test_mistakes_are_one_line(tmp_path, photos):
    runs = [(*arguments(tmp_path / str(i), photos), extra) for i, extra in enumerate(MISTAKES)]
    for done, (extra, words) in zip(call_each("main", *runs), MISTAKES.items(), strict=True):
        assert words in one_line_error(done), extra
    assert not list(tmp_path.glob("*/checkpoints"))


def test_unwritable_workdir(tmp_path, photos):
    (tmp_path / "file").write_text("")
    result = call("main", *arguments(tmp_path / "file" / "run", photos))
    assert "cannot write there" in one_line_error(result)


def test_another_runs_workdir_is_refused(photos, straight):
    workdir = straight[0]
    result = call("main", *arguments(workdir, photos), "--config.training.seed=7")
    assert "config.training.seed=0" in one_line_error(result)
    assert final_fingerprint(workdir) == straight[2]


def test_bad_shards_are_named(tmp_path, photos):
    runs, shards = [], []
    for fault in ("truncated", "digest"):  # missing ones: tests/training/test_checks.py
        data = shutil.copytree(photos, tmp_path / fault)
        shards.append(min(data.glob("train-*.arrayrecord")))
        content = bytearray(shards[-1].read_bytes())
        if fault == "truncated":
            del content[len(content) // 2 :]
        else:
            content[len(content) // 3] ^= 1
        shards[-1].write_bytes(content)
        runs.append((*arguments(tmp_path / "run", data), "--config.data.verify=digest"))
    for done, shard in zip(call_each("main", *runs), shards, strict=True):
        assert shard.name in one_line_error(done)


@pytest.mark.slow
def test_damaged_records_are_counted_and_skipped(tmp_path, photos):
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    shard = sorted(data.glob("train-*.arrayrecord"))[0]
    content = bytearray(shard.read_bytes())
    # The middle of one encoded image: its PNG data no longer decodes.
    at = content.index(b"IDAT", len(content) // 2) + 40
    content[at : at + 30] = bytes(30)
    shard.write_bytes(content)
    result = call("main", *arguments(tmp_path / "run", data, 30))
    assert result.returncode == 0, result.stderr[-2000:]
    for name, workers in (("strict", 0), ("strict_workers", 1)):
        options = [f"--config.data.num_workers={workers}", "--config.data.max_bad_records=0"]
        strict = call("main", *arguments(tmp_path / name, data, 30), *options)
        assert "bad record" in one_line_error(strict) or "damaged" in one_line_error(strict)
