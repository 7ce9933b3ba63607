"""The files of a checkpoint: what one step consists of, and the proof that it is undamaged.

`checkpoints/STEP` holds the items "model", "optimizer" and "meta". The meta item contains the
fingerprint of every array and its own SHA-256. All of it becomes visible in one rename, so there
is no checkpoint without a proof. The trainer and all readers verify what they read by
`check_arrays`, so a byte that changes any array, name, shape or dtype is always noticed.
"""

import contextlib
import hashlib
import json
import logging as standard_logging
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from gen_jax.common.errors import UserError
from gen_jax.runs.fingerprint import fingerprint

# The state is stored in two items, so that inference reads no optimizer moments.
MODEL, OPTIMIZER, META = "model", "optimizer", "meta"

_FINGERPRINT = "fingerprint"
_CONTENT, _SHA256 = "content", "sha256"


class Damaged(Exception):
    """A checkpoint is not what was saved; the message says which part of it."""


def steps(folder: pathlib.Path) -> list[int]:
    """Returns the finished steps of a folder of checkpoints, in ascending order."""
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


def sealed(meta: Mapping[str, Any], items: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of the meta item.

    Args:
      meta: JSON-able facts about the step.
      items: Item name -> tree of arrays, all that is saved beside it.
    """
    content = {**meta, _FINGERPRINT: fingerprint(items)}
    return {_CONTENT: content, _SHA256: _digest(content)}


def read_meta(step: pathlib.Path) -> dict[str, Any]:
    """Reads the meta item of a checkpoint.

    Args:
      step: Folder of the checkpoint.

    Raises:
      Damaged: It is missing, or not what was written.
      UserError: The operating system refuses to read it.
    """
    with reading(step):
        whole = json.loads((step / META / "metadata").read_text(encoding="utf-8"))
        content = whole[_CONTENT]
        if _digest(content) != whole[_SHA256]:
            raise Damaged("its meta item does not match its checksum")
        return content


def read_model(step: pathlib.Path) -> dict[str, Any]:
    """Reads the model item of a checkpoint as NumPy arrays, and verifies it.

    Args:
      step: Folder of the checkpoint.

    Raises:
      Damaged: It is not what was saved.
      UserError: It cannot be read for another reason.
    """
    meta = read_meta(step)
    with reading(step), ocp.PyTreeCheckpointer() as reader:
        place = step.absolute() / MODEL
        # As NumPy: the devices that wrote it need not be here.
        listed = reader.metadata(place).item_metadata
        if listed is None:  # Orbax has only logged why
            raise ValueError("the list of its arrays cannot be read")
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), listed.tree)
        tree = jax.tree.map(np.asarray, reader.restore(place, restore_args=as_numpy))
        check_arrays(meta, {MODEL: tree})
    return tree


def check_arrays(meta: Mapping[str, Any], items: Mapping[str, Any]) -> None:
    """Compares arrays that were read with the fingerprints in the meta item.

    Args:
      meta: What `read_meta` returned.
      items: Item name -> tree of arrays, of some or all items.

    Raises:
      Damaged: An array is missing, unexpected or has other values.
    """
    recorded = {k: v for k, v in meta[_FINGERPRINT].items() if k.split("/")[0] in items}
    current = fingerprint(items)
    for name in sorted(recorded.keys() | current.keys()):
        # Version 0.1.0 recorded the digits alone, without dtype and shape before them.
        if name not in recorded or not current.get(name, "").endswith(recorded[name]):
            raise Damaged(f"array {name!r} is not what was saved")


@contextlib.contextmanager
def reading(step: pathlib.Path) -> Iterator[None]:
    """Raises `Damaged` instead of whatever a damaged file makes the readers raise.

    Args:
      step: Folder of the checkpoint.

    Raises:
      UserError: The cause is not damage: too little memory, no permission, a failing disk.
    """
    _ignore_late_callbacks()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns of a file that it does not need
    try:
        yield
    except (Damaged, UserError):
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise UserError(f"{step}: not enough memory to read this checkpoint") from error
        _check_readable(step)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise Damaged(text[:200]) from error
    finally:
        logging.set_verbosity(verbosity)


def _ignore_late_callbacks() -> None:
    """Keeps TensorStore's stack traces off standard error after one of several reads has failed.

    Orbax then closes its event loop, and threads that finish the other reads still report to it;
    each prints "RuntimeError: Event loop is closed" through `sys.unraisablehook`.
    """
    if getattr(sys.unraisablehook, "ignores_late_callbacks", False):
        return
    previous = sys.unraisablehook

    def hook(unraisable):
        if "Event loop is closed" not in str(unraisable.exc_value):
            previous(unraisable)

    hook.ignores_late_callbacks = True
    sys.unraisablehook = hook
    standard_logging.getLogger("asyncio").addFilter(_is_no_late_read)


def _is_no_late_read(record: standard_logging.LogRecord) -> bool:
    """Returns False for the failures of reads that nobody waits for any more.

    Where several arrays are damaged, the first failure is raised, and asyncio logs a stack trace
    for each of the others when it forgets them.
    """
    return "exception was never retrieved" not in record.getMessage()


def _check_readable(step: pathlib.Path) -> None:
    """Raises UserError if the operating system refuses to read one of the files."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise UserError(
                f"{error.filename or step}: cannot be read ({error.strerror}); the checkpoint is "
                "left as it is, make it readable and run the same command again"
            ) from error

    for folder, _, names in os.walk(step, onerror=refuse):
        for name in names:
            try:
                with open(pathlib.Path(folder, name), "rb") as file:
                    while file.read(2**24):
                        pass
            except OSError as error:
                error.filename = str(pathlib.Path(folder, name))
                refuse(error)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _glob(self: epath.Path, pattern: str) -> Iterator[epath.Path]:
    """Yields the matching files, brackets in the folder's own path being plain characters."""
    return (type(self)(path) for path in pathlib.Path(os.fspath(self)).glob(pattern))


# etils reads brackets in the path of the folder as part of the pattern, so Orbax finds none of its
# files below a folder such as "a[1]": saving skips a step silently, and the result is unreadable.
epath.gpath.PosixGPath.glob = _glob
