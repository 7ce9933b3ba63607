"""Shrinking and enlarging again, so that detail is lost and the size is not."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import Image, Range, resize, uniform
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.data.degradations.noise import check_range

FILTERS = {
    "area": cv2.INTER_AREA,  # antialiased
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
    "matlab": None,  # antialiased bicubic, see bicubic.py; what benchmarks shrink by
}


@dataclasses.dataclass(frozen=True)
class Downscale:
    """Down by a factor and back up, each by a random filter.

    Attributes:
      factor: range, at least 1; drawn uniformly in its logarithm.
      down: filters for shrinking; of these "area" and "matlab" are antialiased.
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
        down, up = (names[rng.integers(len(names))] for names in (self.down, self.up))
        if logarithm < 0.01:
            return image, {"scale": 0.0}
        size = image.shape[:2]
        small = _shrunk(image, 2**logarithm, down)
        return _enlarged(small, size, 2**logarithm, up), {"scale": logarithm}


def _shrunk(image: Image, factor: float, how: str) -> Float[np.ndarray, "h2 w2 c"]:
    if how == "matlab":
        return imresize(image, 1.0 / factor)
    size = tuple(max(1, round(side / factor)) for side in image.shape[:2])
    return resize(image, size, FILTERS[how])


def _enlarged(
    image: Image, size: tuple[int, int], factor: float, how: str
) -> Float[np.ndarray, "h2 w2 c"]:
    if how == "matlab":
        # Sizes are rounded up on the way down: as large as it was, or a little larger.
        large = imresize(image, max(factor, *(n / m for n, m in zip(size, image.shape))))
        return np.ascontiguousarray(large[: size[0], : size[1]])
    return resize(image, size, FILTERS[how])
