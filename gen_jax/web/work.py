"""The one queue that every call of the model passes through."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gen_jax.common.errors import UserError


class QueueFull(UserError):
    """Raised if as many requests wait as the queue holds."""


class WorkQueue:
    """Runs jobs one at a time, in the order of their arrival, in a thread of its own.

    A second call of the model would only share the device with the first one, so both would take
    longer and need more memory.

    Args:
      size: Jobs that may wait or run; one more is refused.
    """

    def __init__(self, size: int):
        self._size = size
        self._pending = 0
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @property
    def pending(self) -> int:
        """Returns how many jobs wait or run."""
        return self._pending

    def submit(self, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
        """Adds a job.

        Raises:
          QueueFull: As many jobs as the queue holds wait or run.
        """
        with self._lock:
            if self._pending >= self._size:
                raise QueueFull(
                    f"the server is busy: {self._pending} requests wait for the model; try again "
                    "in a few seconds"
                )
            self._pending += 1
        try:
            future = self._worker.submit(job, *args, **kwargs)
        except RuntimeError as error:  # the server is stopping
            self._release()
            raise QueueFull("the server is stopping; try again later") from error
        future.add_done_callback(lambda _: self._release())
        return future

    def run(self, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a job and waits for its result; raises what the job raises, and `QueueFull`."""
        return self.submit(job, *args, **kwargs).result()

    async def run_async(self, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a job without blocking the event loop; raises as `run` does."""
        return await asyncio.wrap_future(self.submit(job, *args, **kwargs))

    def close(self) -> None:
        """Drops the waiting jobs and accepts no more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _release(self) -> None:
        with self._lock:
            self._pending -= 1
