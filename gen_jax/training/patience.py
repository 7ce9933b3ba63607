"""Early stopping: ends a run once evaluations stop improving its best metric."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gen_jax.training.schedule import Schedule


class Patience:
    """Counts the evaluations in a row without a better `best_metric`.

    The count is part of each checkpoint, so that a resumed run ends at the same step as an
    uninterrupted one.

    Args:
      schedule: Its `patience`, `best_metric` and `best_mode`.
      record: What `record` returned for the checkpoint that the run resumes from, or None.
    """

    def __init__(self, schedule: Schedule, record: Mapping[str, Any] | None = None):
        self._limit, self._metric = schedule.patience, schedule.best_metric
        self._mode = schedule.best_mode
        self._sign = 1.0 if self._mode == "min" else -1.0
        record = record or {}
        if (record.get("metric"), record.get("mode")) != (self._metric, self._mode):
            record = {}  # values of another metric cannot be compared
        self._step: int = record.get("step", 0)
        self._count: int = record.get("count", 0)
        self._best: float | None = record.get("best")
        self._best_step: int = record.get("best_step", 0)

    @property
    def is_over(self) -> bool:
        """Whether the run ends here."""
        return bool(self._limit) and self._count >= self._limit

    def lacks(self, step: int) -> bool:
        """Returns whether an evaluation at a step is not counted yet, as after a SIGTERM."""
        return bool(self._limit) and step > self._step

    def record(self) -> dict[str, Any]:
        """Returns the count as JSON-able values for the meta of a checkpoint."""
        return {
            "metric": self._metric,
            "mode": self._mode,
            "step": self._step,
            "count": self._count,
            "best": self._best,
            "best_step": self._best_step,
        }

    def update(self, step: int, measured: Mapping[str, float]) -> None:
        """Counts an evaluation that measured the metric, each step once.

        A value that is not finite is not better than any other.

        Args:
          step: Step of the evaluation.
          measured: All metrics of the evaluation.
        """
        if self._metric not in measured or step <= self._step:
            return
        value, self._step = float(measured[self._metric]), step
        is_first = self._best is None
        is_better = math.isfinite(value) and (
            is_first or self._sign * value < self._sign * self._best
        )
        # All processes must end at the same step, even if their values differ in the last bit.
        if _from_main(is_better):
            self._count, self._best, self._best_step = 0, value, step
        else:
            self._count += 1

    def __str__(self) -> str:
        best = "none" if self._best is None else f"{self._best:.6g} at step {self._best_step}"
        return (
            f"no better {self._metric} in {self._count} evaluations "
            f"(config.training.patience={self._limit}); the best is {best}"
        )


def _from_main(value: bool) -> bool:
    """Returns the value of the main process, on every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))
