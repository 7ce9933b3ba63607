"""SIGTERM as a request to save and leave, agreed on by all processes."""

import itertools
import signal
import threading

import jax

# One count for all stages of a process: what one of them hears in its last moments, the next obeys.
_CALLS = itertools.count(1)


class Leaving(Exception):
    """What was under way is given up, because SIGTERM came."""


class Preemption:
    """Listens for SIGTERM while it is entered as a context.

    With one process our own handler notes the signal. With several, JAX's coordination service
    hears it on any host and names one call of `reached` at which all of them stop.
    """

    def __init__(self):
        self._asked = False
        self._previous = None

    def __enter__(self):
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exc):
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, *_):
        self._asked = True

    def reached(self) -> bool:
        """True when the run should save and leave, the same on every process.

        All of them call it equally often: after each step, and before each batch of an evaluation.
        """
        if jax.process_count() > 1 and not self._asked:
            from jax.experimental import multihost_utils

            self._asked = bool(multihost_utils.reached_preemption_sync_point(next(_CALLS)))
        return self._asked

    def check(self) -> None:
        """Raises Leaving when the run should save and leave."""
        if self.reached():
            raise Leaving
