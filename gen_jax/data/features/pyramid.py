"""Feature pyramids: stored native grids, and any other level by interpolation on the device.

A tower of patch 14 makes an n x n grid from an input of 14 n pixels, so grids of 64 to 256 would
need inputs of 896 to 3584 pixels, or be interpolations anyway, and weigh up to 100 MiB an image.
What is stored is 4 x 4 to 32 x 32 (`featurize`); what is wider is derived when it is needed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.data.features import codec


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """The grids of one layer of a tower, read from batches of a loader.

    Attributes:
      names: grid -> name of the stored feature, such as 16 -> "patches_16".
      pca: name -> `{"mean", "components"}` where they are stored so.
    """

    names: Mapping[int, str]
    pca: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def level(self, batch: Mapping[str, Any], grid: int) -> Float[Array, "b {grid} {grid} c"]:
        """One level as float32; a pure function, to be called inside jit.

        A grid that is stored comes as written. Another one comes from the next finer stored
        grid, or else from the finest: bilinear, pixels at their centres, edges repeated, and
        antialiased where it shrinks (`jax.image.resize`).

        Args:
          batch: what the loader gives.
          grid: tokens a side, at least 1.

        Raises:
          UserError: the batch lacks the stored grid, or the grid makes no sense.
        """
        if grid < 1:
            raise UserError(f"level {grid}: expected at least 1 token a side")
        finer = [n for n in self.names if n >= grid]
        native = min(finer) if finer else max(self.names)
        name = self.names[native]
        stored = stored_of(batch, name)
        x = codec.coefficients(stored)
        if grid != native:
            # Before the basis is undone: both are linear, and there are fewer coefficients.
            x = jax.image.resize(x, (x.shape[0], grid, grid, x.shape[-1]), "bilinear")
        return codec.expand(x, self.pca.get(name) if "scale" in stored else None)

    def levels(
        self, batch: Mapping[str, Any], grids: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    ) -> dict[int, Float[Array, "b _ _ c"]]:
        """Several levels: grid -> [b, grid, grid, c]."""
        return {grid: self.level(batch, grid) for grid in grids}


def stored_of(batch: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is stored of one feature, out of a batch or a record's arrays.

    Raises:
      UserError: it is not there.
    """
    if name not in batch:
        there = sorted(k for k in batch if not k.endswith(SCALE))
        raise UserError(f"feature {name!r} is not in this batch: it has {', '.join(there)}")
    found = {"": batch[name]}
    if name + SCALE in batch:
        found["scale"] = batch[name + SCALE]
    return found


# Ending of the array that holds a feature's scales.
SCALE = ".scale"
