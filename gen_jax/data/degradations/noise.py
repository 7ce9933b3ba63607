"""Noise: Gaussian as benchmarks add it, and that of counted photons."""

import dataclasses

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import Image, Range, uniform


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Additive white noise, neither clipped nor rounded (what denoising benchmarks mean).

    Attributes:
      sigma: range of the deviation, in 8-bit units.
      gray: probability that all channels share one draw.
    """

    sigma: Range = (0.0, 50.0)
    gray: float = 0.0

    def __post_init__(self):
        check_range("sigma", self.sigma)

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        sigma = uniform(rng, self.sigma)
        noise = rng.standard_normal(noise_shape(image, rng, self.gray), np.float32)
        return image + np.float32(sigma / 255.0) * noise, {"sigma": sigma}


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Noise of counted photons: its variance is proportional to the brightness.

    Attributes:
      shot: range of the deviation at white, in 8-bit units; 255 / shot squared is the number of
        photons there.
      gray: probability that the brightness alone is counted, and all channels move together.
    """

    shot: Range = (2.0, 25.0)
    gray: float = 0.4

    def __post_init__(self):
        check_range("shot", self.shot)

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        shot = uniform(rng, self.shot)
        if shot <= 0.0:
            return image, {"shot": 0.0}
        photons = (255.0 / shot) ** 2
        expected = np.maximum(image, 0.0)
        if rng.random() < self.gray:
            expected = expected.mean(-1, keepdims=True)
        counted = rng.poisson(expected * photons).astype(np.float32) / np.float32(photons)
        return image + (counted - expected).astype(np.float32), {"shot": shot}


def noise_shape(image: Image, rng: np.random.Generator, gray: float) -> tuple[int, ...]:
    """The image's shape, or that of one channel with probability `gray`."""
    return (*image.shape[:2], 1) if rng.random() < gray else image.shape


def check_range(name: str, bounds: Range, low: float | int = 0) -> None:
    """Raises UserError unless low <= bounds[0] <= bounds[1]."""
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1]:
        raise UserError(f"degradation: {name}={bounds}: expected two numbers, {low:g} <= a <= b")
