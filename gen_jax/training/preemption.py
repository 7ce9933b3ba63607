"""SIGTERM as a request to save and leave, agreed on by all processes."""

import signal
import threading

import jax


class Preemption:
    """Listens for SIGTERM while it is entered as a context.

    With one process our own handler notes the signal. With several, JAX's coordination service
    hears it on any host and names one step at which all of them stop.
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

    def reached(self, step: int) -> bool:
        """True when the run should save at this step and leave; the same on every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._asked
