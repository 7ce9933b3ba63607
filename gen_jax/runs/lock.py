"""One writer per run directory: the main process of a job locks it for all of the job's."""

import contextlib
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator

import jax
import numpy as np

from gen_jax.common import folder_lock
from gen_jax.common.errors import UserError
from gen_jax.parallel import distributed


@contextlib.contextmanager
def held(workdir: pathlib.Path, name: str = "workdir") -> Iterator[None]:
    """Holds the lock of a run directory, for all processes of this job.

    Args:
      workdir: The run directory, which exists.
      name: What it is called in the error message.

    Raises:
      UserError: Another job holds it. All processes of this job raise.
    """
    with contextlib.ExitStack() as stack:
        refusal = None
        if distributed.is_main():
            try:
                stack.enter_context(folder_lock.held(workdir, name=name))
            except UserError as error:
                refusal = error
        if _any(refusal is not None):
            raise refusal or UserError(f"{workdir}: the main process did not get its lock")
        stack.enter_context(_released_by_sigterm())
        yield


def _any(value: bool) -> bool:
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(value)).any())


@contextlib.contextmanager
def _released_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM unwind the stack, if nothing else handles it."""
    is_free = (
        jax.process_count() == 1  # with several, JAX's coordination service handles it
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if is_free:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
