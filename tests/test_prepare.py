"""The door: run as a user runs it."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest

from gen_jax.data import dataset
from gen_jax.data.prepare import build

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _command(*arguments):
    return [sys.executable, "-m", "gen_jax.prepare", *map(str, arguments)]


def _run(*arguments, **options):
    return subprocess.run(
        _command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, **options
    )


def _one_line(result):
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_help_is_quick_and_complete():
    start = time.perf_counter()
    result = _run("--help")
    assert time.perf_counter() - start < 2.0
    assert result.returncode == 0
    flags = (
        "source",
        "out",
        "size",
        "val_fraction",
        "workers",
        "num",
        "seed",
        "max_bad",
        "caption",
    )
    for flag in flags:
        assert f"--{flag}:" in result.stdout


def test_photos_from_the_command_line(tmp_path):
    out = tmp_path / "photos"
    result = _run("--source=photos", f"--out={out}", "--num=34", "--size=24", "--workers=1")
    assert result.returncode == 0, result.stderr
    assert "train" in result.stdout and "contact_sheet.png" in result.stdout
    info = dataset.load(out)
    assert sum(info.num_records(split) for split in info.splits) == 34


def test_mistakes_are_one_line(tmp_path):
    assert "--source and --out are needed" in _one_line(_run())
    assert "no such folder" in _one_line(_run(f"--source={tmp_path}/no", f"--out={tmp_path}/o"))
    captioned = [f"--source={tmp_path}", f"--out={tmp_path}/o", "--caption=clip"]
    assert "--caption=clip: expected one of blip2" in _one_line(_run(*captioned))
    assert "nubmer" in _one_line(_run("--nubmer=3"))


def _children(pid):
    path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in path.read_text().split()] if path.exists() else []


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_kill_minus_nine_half_way_then_the_same_command_gives_identical_bytes(tmp_path):
    arguments = ["--source=photos", "--num=204", "--size=64", "--shard_records=8", "--workers=2"]
    out, straight = tmp_path / "killed", tmp_path / "straight"
    process = subprocess.Popen(
        _command(*arguments, f"--out={out}"), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(out.glob("*.arrayrecord"))) < 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        workers = _children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / dataset.FILE).exists()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/cmdline") and _alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    finished = {p.name: p.stat().st_mtime_ns for p in out.glob("*.arrayrecord")}
    assert 0 < len(finished) < 26
    marked = {p.name.removesuffix(".json") for p in (out / build.WORK).glob("*.arrayrecord.json")}
    result = _run(*arguments, f"--out={out}")
    assert result.returncode == 0, result.stderr
    assert marked and all(
        (out / name).stat().st_mtime_ns == finished[name] for name in marked & set(finished)
    )
    build.prepare(
        build.Options("photos", str(straight), num=204, size=64, shard_records=8, workers=1)
    )
    one, two = ({p.name: p.read_bytes() for p in d.iterdir()} for d in (out, straight))
    assert one == two


def _alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_full_disk_is_one_line_and_temporary_files_are_gone(tmp_path):
    def limit():  # a file may not grow beyond this: write() fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    out = tmp_path / "full"
    result = _run("--source=photos", f"--out={out}", "--num=200", "--workers=1", preexec_fn=limit)
    line = _one_line(result)
    assert "cannot write this shard" in line and "free some space" in line
    assert list(out.glob("*.arrayrecord")) == []
    assert list(out.rglob("*.tmp")) == []
