"""Steps whose loss or gradient is not finite: skipped, named, counted."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gen_jax.common import progress
from gen_jax.common.errors import UserError
from gen_jax.training import checkpoint


class NonFinite:
    """Counts skipped steps; too many in a row stop the run."""

    def __init__(self, limit: int, saver: checkpoint.Checkpointer, keys, total: int):
        self._limit, self._saver, self._keys = limit, saver, keys
        self._row, self.total = 0, total

    def check(
        self, step: int, indices: np.ndarray | None, metrics: Mapping[str, Any]
    ) -> dict[str, float]:
        """Reads a step's metrics from the device and returns them."""
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        if not values["nonfinite"]:
            self._row = 0
            return values
        self._row += 1
        self.total += 1
        names = self._keys(indices) if indices is not None else []
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        progress.say(f"step {step}: loss or gradient is not finite, skipped (records {shown})")
        if self._row >= self._limit:
            raise UserError(
                f"step {step}: {self._row} steps in a row were not finite; the last batch held "
                f"{shown}; the last good checkpoint is {self._saver.latest_step()}. Lower "
                "config.optimizer.model.learning_rate or look at these records"
            )
        return values
