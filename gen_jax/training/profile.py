"""A trace of some training steps for TensorBoard's profiler."""

import pathlib
from typing import Any

import jax

from gen_jax.common.progress import say

_WARM_UP = 9  # steps before the first that is traced


class Profile:
    """Traces steps of a run and always ends the trace.

    A run with too few steps left is traced at its end, and says so. As a context manager it ends
    a trace that an exception or SIGTERM cut short, of which the finished steps are kept.

    Args:
      workdir: The run directory; the trace goes into its folder `profile`.
      start: Number of steps taken before this process.
      last: Number of the run's last step.
      steps: Steps to trace, 0 for none.
    """

    def __init__(self, workdir: pathlib.Path, start: int, last: int, steps: int):
        self._folder = str(workdir / "profile")
        count = min(steps, last - start)
        # Late enough to be in full swing, early enough for all of them.
        self._first = min(start + 1 + _WARM_UP, last - count + 1)
        self._last = self._first + count - 1
        self._tracing = False
        if steps and count < steps:
            say(f"config.training.profile_steps={steps}: the run has {count} steps, all are traced")

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_) -> None:
        if self._tracing:
            self._stop()

    def before(self, step: int) -> None:
        """Starts the trace if `step` is the first to be traced."""
        if step == self._first <= self._last:
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def after(self, step: int, state: Any) -> None:
        """Ends the trace if `step` is the last to be traced, once `state` is computed."""
        if self._tracing and step == self._last:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        self._tracing = False
        jax.profiler.stop_trace()
        say(f"wrote a profile to {self._folder}")
