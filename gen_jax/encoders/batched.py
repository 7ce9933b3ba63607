"""Runs a frozen tower over many rows: in batches of one shape, on all devices of the process."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gen_jax.common.batching import pad_rows
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh


class Batched:
    """`forward(params, *arrays)`, compiled once a shape, its parameters kept in main memory.

    They lie on the devices only while a call lasts: an evaluation between training steps
    leaves no room taken.

    Args:
      forward: pure; rows in, an array of as many rows out.
      params: of the tower.
      batch_size: rows at once, rounded up to a multiple of the local devices.
    """

    def __init__(self, forward: Callable[..., jax.Array], params: Any, batch_size: int = 64):
        self._mesh = make_mesh({"fsdp": -1}, jax.local_devices())
        self._params = params
        self._forward = jax.jit(forward)
        self._rows = batch_size + -batch_size % self._mesh.size

    def __call__(
        self, *arrays: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray:
        """The results of all rows, in their order.

        Args:
          *arrays: of the same number of rows, at least one.
          prepare: what is done to each batch on the host before.
        """
        params = jax.device_put(self._params, sharding.replicated(self._mesh))
        split, parts, running = sharding.batch_sharding(self._mesh), [], None
        for start in range(0, len(arrays[0]), self._rows):
            batch = [a[start : start + self._rows] for a in arrays]
            count = len(batch[0])
            if prepare is not None:
                batch = [prepare(a) for a in batch]
            batch = [pad_rows(a, self._rows) for a in batch]
            out = self._forward(params, *jax.device_put(batch, split))[:count]
            # One batch computes while the next is read; more would pile up on the devices.
            if running is not None:
                parts.append(np.asarray(running))
            running = out
        return np.concatenate([*parts, np.asarray(running)])
