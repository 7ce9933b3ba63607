"""Grain of film and of scans: coarse, correlated, and strongest in the midtones."""

import dataclasses

import numpy as np

from gen_jax.data.degradations.base import Image, Range, uniform
from gen_jax.data.degradations.camera import coarsened
from gen_jax.data.degradations.noise import check_range, noise_shape


@dataclasses.dataclass(frozen=True)
class Grain:
    """Additive Gaussian noise with a Gaussian correlation between neighboring pixels.

    Attributes:
      sigma: Range of the standard deviation, in 8-bit units.
      size: Range of the standard deviation of the blur that correlates the noise, in pixels.
      gray: Probability that all channels share one draw, as in black-and-white film.
      midtones: Probability that black and white get only a quarter of the grain of middle gray,
        as on film; otherwise it is even.
    """

    sigma: Range = (2.0, 35.0)
    size: Range = (0.4, 2.0)
    gray: float = 0.5
    midtones: float = 0.5

    def __post_init__(self):
        check_range("sigma", self.sigma)
        check_range("size", self.size)

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        sigma, size = uniform(rng, self.sigma), uniform(rng, self.size)
        noise = rng.standard_normal(noise_shape(image, rng, self.gray), np.float32)
        noise = np.float32(sigma / 255.0) * coarsened(noise, size)
        if rng.random() < self.midtones:
            light = np.clip(image.mean(-1, keepdims=True), 0.0, 1.0)
            noise = noise * (0.25 + 3.0 * light * (1.0 - light))
        noise = np.broadcast_to(noise, image.shape).astype(np.float32)
        return image + noise, {"sigma": float(np.sqrt(np.mean(np.square(noise))) * 255.0)}
