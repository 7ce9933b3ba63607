"""A map over processes that keeps the order, shows progress and leaves no orphans."""

import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gen_jax.common.errors import UserError

# Set once in each worker by `_start`: a source of a million file names is sent once, not per task.
_context: Any = None


def follow_parent(*signals: int) -> None:
    """Leaves these signals and Ctrl-C to the parent process, and ends when it does."""
    for number in (signal.SIGINT, *signals):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # kill -9 of the parent would leave us waiting for tasks for ever.
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _start(context: Any) -> None:
    global _context
    _context = context
    follow_parent()


def _call(function: Callable[[Any, Any], Any], task: Any) -> Any:
    return function(_context, task)


def default_workers() -> int:
    """As many as there are cores for us."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Any, Any], Any],
    context: Any,
    tasks: Sequence[Any],
    *,
    workers: int,
    label: str,
    sizes: Sequence[int] | None = None,
) -> Iterator[Any]:
    """Yields function(context, task) for every task, in the order of the tasks.

    Args:
      function: a module-level function.
      context: what every call needs; pickled once a worker.
      tasks: one argument each.
      workers: processes; 1 runs everything here.
      label: Name of the progress line.
      sizes: Images per task, for the progress line; 1 each by default.

    Raises:
      UserError: as raised by `function`, or because a worker was killed.
    """
    from gen_jax.common.progress import ProgressLine  # rich, which the workers need not import

    done = list(itertools.accumulate(sizes or [1] * len(tasks)))
    if not done:
        return
    with ProgressLine(label, done[-1], 0, unit="image") as line:
        if workers <= 1 or len(tasks) <= 1:
            for task, count in zip(tasks, done, strict=True):
                yield function(context, task)
                line.update(count, {})
            return
        # spawn: a forked copy of our threads and open files is a deadlock waiting to happen
        pool = concurrent.futures.ProcessPoolExecutor(
            min(workers, len(tasks)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(context,),
        )
        try:
            futures = [pool.submit(_call, function, task) for task in tasks]
            for future, count in zip(futures, done, strict=True):
                yield future.result()
                line.update(count, {})
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker process died, most likely for want of memory (or the calling script "
                "lacks `if __name__ == '__main__':`); run it again with fewer workers, "
                "finished shards are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
