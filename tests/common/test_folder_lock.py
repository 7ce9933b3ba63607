import dataclasses
import json
import os
import subprocess
import threading
import time

import pytest

from gen_jax.common import folder_lock
from gen_jax.common.errors import UserError
from gen_jax.common.process_id import ProcessId


def write(folder, age=0.0, **changes):
    """Writes the lock of another process, renewed `age` seconds ago."""
    process = dataclasses.replace(ProcessId.current(), **changes)
    path = folder / folder_lock.FILE
    path.write_text(json.dumps({"token": "x", "process": dataclasses.asdict(process)}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_live_writer_is_named_and_keeps_its_lock(tmp_path):
    with folder_lock.held(tmp_path):
        path = tmp_path / folder_lock.FILE
        before = path.read_bytes()
        refused = f"is being written by pid {os.getpid()} on .* since 2.* another --out$"
        with (
            pytest.raises(UserError, match=refused),
            folder_lock.held(tmp_path, name="--out"),
        ):
            pass
        assert path.read_bytes() == before
        assert folder_lock.holder(tmp_path).pid == os.getpid()
    assert not list(tmp_path.iterdir()) and folder_lock.holder(tmp_path) is None


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("how", ["gone", "reused", "zombie"])
def test_a_dead_writer_holds_nobody_up(tmp_path, how):
    if how == "gone":
        write(tmp_path, pid=dead_pid())
    elif how == "reused":
        write(tmp_path, started="1")
    else:
        process = subprocess.Popen(["true"])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        write(tmp_path, pid=process.pid, started="")
    with folder_lock.held(tmp_path):
        assert folder_lock.holder(tmp_path).started == ProcessId.current().started
    if how == "zombie":
        process.wait()


def wait_until(condition):
    """Waits for another thread; a minute is far more than it needs."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("change", [{"host": "other"}, {"system": "another boot or container"}])
def test_another_systems_writer_counts_as_dead_after_five_minutes(tmp_path, change):
    path = write(tmp_path, age=60, **change)
    with pytest.raises(UserError, match="is being written by pid"), folder_lock.held(tmp_path):
        pass
    assert folder_lock.holder(tmp_path) is not None
    path = write(tmp_path, age=301, **change)
    assert folder_lock.holder(tmp_path) is None
    with folder_lock.held(tmp_path):
        assert json.loads(path.read_text())["token"] != "x"


def test_a_silent_writer_is_waited_for_until_it_shows_itself_or_is_dead(
    tmp_path, monkeypatch, capsys
):
    path, ages = write(tmp_path, age=100, host="other"), iter([200, 250, 400])
    monkeypatch.setattr(time, "sleep", lambda _: os.utime(path, (time.time() - next(ages),) * 2))
    with folder_lock.held(tmp_path):
        assert next(ages, None) is None
    assert capsys.readouterr().err.count("silent for") == 1
    path, ages = write(tmp_path, age=100, host="other"), iter([101, 0])
    with pytest.raises(UserError, match="is being written by pid"), folder_lock.held(tmp_path):
        pass


def test_a_damaged_lock_counts_by_its_age(tmp_path):
    path = tmp_path / folder_lock.FILE
    path.write_text("{")
    with pytest.raises(UserError, match="another process"), folder_lock.held(tmp_path):
        pass
    os.utime(path, (time.time() - 301,) * 2)
    with folder_lock.held(tmp_path):
        assert folder_lock.holder(tmp_path).pid == os.getpid()


def test_one_of_many_takes_a_dead_lock_over(tmp_path):
    write(tmp_path, pid=dead_pid())
    start, end, got, refused = threading.Barrier(8), threading.Event(), [], []

    def work():
        start.wait()
        try:
            with folder_lock.held(tmp_path):
                got.append(1)
                end.wait()
        except UserError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(got) + len(refused) == 8)
    end.set()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_the_lock_is_renewed_and_never_removed_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_BEAT", 0.02)
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    path = tmp_path / folder_lock.FILE
    with folder_lock.held(tmp_path):
        os.utime(path, (0, 0))
        wait_until(lambda: path.stat().st_mtime != 0)
        assert not ended
        write(tmp_path, host="other")  # this process had been stopped for 5 minutes
        wait_until(lambda: ended)
    assert ended[0] == 2 and path.exists()


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    with (
        folder_lock.held(tmp_path),
        pytest.raises(UserError, match="is being written"),
        folder_lock.held(tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())
