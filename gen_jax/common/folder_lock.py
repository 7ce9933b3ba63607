"""A lock file that keeps a second writer out of a folder, also on other hosts.

The file names the process that holds it, and its modification time is renewed while that process
lives. Kernel locks (flock) end with their process, but many network file systems do not have them
and they do not say who holds them.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator

from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.common.process_id import ProcessId

FILE = "run.lock"

_BEAT = 30.0  # seconds between two renewals
_ALIVE = 2.5 * _BEAT  # after so many seconds without one, it is worth waiting for the end
_DEAD = 300.0  # seconds of silence after which another system's process counts as dead


@contextlib.contextmanager
def held(
    folder: pathlib.Path, file: pathlib.Path | None = None, name: str = "workdir"
) -> Iterator[None]:
    """Holds the lock of a folder.

    A lock of a process that is known to be dead is taken over at once. One of another system
    (host, container, boot) that has been silent for over a minute is waited for, until it is
    renewed or has been silent for 5 minutes.

    Args:
      folder: What the lock protects. The same process must not hold the lock already.
      file: Path of the lock file, in a folder that exists; `FOLDER/run.lock` by default.
      name: What the folder is called in the error message, such as "out".

    Raises:
      UserError: A live process holds the lock.
    """
    path = file or pathlib.Path(folder) / FILE
    token = _acquire(path, folder, name)
    stop = threading.Event()
    threading.Thread(target=_beat, args=(path, token, folder, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        if _read(path)[0] == token:
            path.unlink(missing_ok=True)


def holder(folder: pathlib.Path) -> ProcessId | None:
    """Returns the process that holds the lock of a folder, or None if no live one does."""
    path = pathlib.Path(folder) / FILE
    _, process, renewed = _read(path)
    if process is None or process.has_ended():
        return None
    if process.has_ended() is None and _now(path.parent) - renewed >= _DEAD:
        return None
    return process


def _acquire(path: pathlib.Path, folder: pathlib.Path, name: str) -> str:
    """Takes the lock and returns the token in it."""
    token, waits = uuid.uuid4().hex, False
    record = {"token": token, "process": dataclasses.asdict(ProcessId.current())}
    while not _create(path, json.dumps(record) + "\n"):
        other, process, renewed = _read(path)
        if other == token:
            break  # a file server whose first answer was lost
        if other is None:
            continue  # released meanwhile
        ended = process.has_ended() if process else None
        silent = _now(path.parent) - renewed
        if ended or (ended is None and silent >= _DEAD):
            _remove(path, other)
        elif ended is None and silent >= _ALIVE:
            if not waits:
                waits = True
                print(
                    f"note: {folder} was being written by {process or 'another process'}, "
                    f"silent for {silent:.0f} s; taking over after {_DEAD:.0f} s of silence",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            time.sleep(1.0)
        else:
            raise UserError(
                f"{folder} is being written by {process or 'another process'}; wait for it or name "
                f"another {name}"
            )
    return token


def _create(path: pathlib.Path, text: str) -> bool:
    """Creates the file with its content in one step; returns False if there is one already."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        files.write_text(temporary, text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            return _create_without_links(path, text)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_without_links(path: pathlib.Path, text: str) -> bool:
    """Does what `_create` does on a file system without hard links.

    Whoever reads in between sees an empty file.
    """
    try:
        file = open(path, "x", encoding="utf-8")  # noqa: SIM115
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _read(path: pathlib.Path) -> tuple[str | None, ProcessId | None, float]:
    """Returns token, process and last renewal of a lock file; a token of None if it is not there.

    A damaged file has the token "" and no process.
    """
    try:
        renewed = path.stat().st_mtime
        values = json.loads(path.read_bytes())
        return str(values["token"]), ProcessId.from_json(values["process"]), renewed
    except FileNotFoundError:
        return None, None, 0.0
    except (ValueError, KeyError, TypeError):
        return "", None, renewed


def _remove(path: pathlib.Path, token: str) -> None:
    """Removes the lock if it is still the one with this token."""
    # One process of a host at a time, or the second would remove what the first has just taken.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # network file systems cannot lock a folder
            fcntl.flock(folder, fcntl.LOCK_EX)
        if _read(path)[0] == token:
            path.unlink(missing_ok=True)
    finally:
        os.close(folder)


def _now(folder: pathlib.Path) -> float:
    """Returns the time by the clock that stamps files in a folder: a file server has its own."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
        os.utime(file.name)
        return os.stat(file.name).st_mtime


def _beat(path: pathlib.Path, token: str, folder: pathlib.Path, stop: threading.Event) -> None:
    """Renews the lock until `stop`; ends the process if another one has taken the lock over."""
    while not stop.wait(_BEAT):
        with contextlib.suppress(OSError):  # a file server that is away for a while
            found, process, _ = _read(path)
            if found == token:
                os.utime(path)
            elif found is not None and not stop.is_set():
                # This process was stopped or cut off for so long that it counted as dead.
                print(
                    f"error: {folder} has been taken over by {process or 'another process'}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                os._exit(2)
