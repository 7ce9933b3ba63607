"""Shrinking and enlarging again, so that detail is lost and the size is not."""

import dataclasses

import cv2
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import Image, Range, resize, uniform
from gen_jax.data.degradations.noise import check_range

FILTERS = {
    "area": cv2.INTER_AREA,  # antialiased
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
}


@dataclasses.dataclass(frozen=True)
class Downscale:
    """Down by a factor and back up, each by a random filter.

    Attributes:
      factor: range, at least 1; drawn uniformly in its logarithm.
      down: filters for shrinking.
      up: filters for enlarging.
    """

    factor: Range = (1.0, 4.0)
    down: tuple[str, ...] = ("area", "bilinear", "bicubic")
    up: tuple[str, ...] = ("bilinear", "bicubic")

    def __post_init__(self):
        check_range("factor", self.factor, 1.0)
        if unknown := (set(self.down) | set(self.up)) - set(FILTERS):
            known = ", ".join(FILTERS)
            raise UserError(f"degradation: filter {sorted(unknown)[0]!r} is none of {known}")

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        logarithm = uniform(rng, tuple(np.log2(self.factor)))
        down, up = (FILTERS[k[rng.integers(len(k))]] for k in (self.down, self.up))
        if logarithm < 0.01:
            return image, {"scale": 0.0}
        size = image.shape[:2]
        small = tuple(max(1, round(side / 2**logarithm)) for side in size)
        return resize(resize(image, small, down), size, up), {"scale": logarithm}
