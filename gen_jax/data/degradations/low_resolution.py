"""Real-world super-resolution: damage while an image shrinks, not after it (arXiv:2107.10833)."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import (
    Image,
    Range,
    combined,
    from_bytes,
    resize,
    to_bytes,
    uniform,
)
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.data.degradations.noise import check_range
from gen_jax.data.degradations.resample import FILTERS

_SMALLEST = 4  # pixels of a side that an image never falls below
_RANDOM_FILTERS = ("area", "bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Resize:
    """A change of size by a random factor and filter; a step of `LowResolution` alone.

    Attributes:
      factor: Range of the new side over the old one, on both sides of 1.
      chance: Probabilities of enlarging, of shrinking and of neither.
    """

    factor: Range = (0.15, 1.5)
    chance: tuple[float | int, ...] = (0.2, 0.7, 0.1)

    def __post_init__(self):
        check_range("factor", self.factor, 0.01)
        if not self.factor[0] <= 1.0 <= self.factor[1]:
            raise UserError(f"degradation: factor={self.factor}: expected a range that holds 1")
        if len(self.chance) != 3 or abs(sum(self.chance) - 1.0) > 1e-6:
            raise UserError(f"degradation: chance={self.chance}: expected three of sum 1")

    def __call__(
        self, image: Image, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "h2 w2 c"], dict[str, float]]:
        ranges = ((1.0, self.factor[1]), (self.factor[0], 1.0), (1.0, 1.0))
        factor = uniform(rng, ranges[rng.choice(3, p=self.chance)])
        size = [max(_SMALLEST, round(side * factor)) for side in image.shape[:2]]
        return _resized(image, (size[0], size[1]), rng), {}


@dataclasses.dataclass(frozen=True)
class LowResolution:
    """Damages an image on its way to a smaller size, and enlarges the file that comes of it.

    It is enlarged by MATLAB's bicubic, as `gen_jax.restore` enlarges its input.

    Attributes:
      scale: Factor between the sides of the image and of the file.
      steps: Degradations before the file's size is reached; `Resize` is one of them.
      last: Degradations at the file's size.
    """

    scale: int = 4
    steps: tuple[Any, ...] = ()
    last: tuple[Any, ...] = ()

    def __post_init__(self):
        if self.scale < 1:
            raise UserError(f"degradation: scale={self.scale}: expected at least 1")

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        height, width = image.shape[:2]
        drawn, x = {"scale": math.log2(self.scale)}, image
        for step in self.steps:
            x, drawn = _apply(step, x, drawn, width, rng)
        x = _resized(x, (math.ceil(height / self.scale), math.ceil(width / self.scale)), rng)
        for step in self.last:
            x, drawn = _apply(step, x, drawn, width, rng)
        large = imresize(from_bytes(to_bytes(x)), self.scale)
        return np.ascontiguousarray(large[:height, :width], dtype=np.float32), drawn


def _apply(step, x, drawn, width, rng):
    """Applies a step; radii are counted in pixels of the image, not of what it has shrunk to."""
    pixel = width / x.shape[1]
    x, values = step(x, rng)
    values = {k: v * pixel if k == "blur" else v for k, v in values.items()}
    return x, combined(drawn, values)


def _resized(image: Image, size: tuple[int, int], rng) -> Float[np.ndarray, "h2 w2 c"]:
    name = _RANDOM_FILTERS[rng.integers(len(_RANDOM_FILTERS))]
    return image if size == image.shape[:2] else resize(image, size, FILTERS[name])
