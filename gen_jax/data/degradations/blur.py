"""Blur: the kernels of blind super-resolution (arXiv:2103.14006, arXiv:2107.10833)."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float
from scipy import special

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import Image, Range, uniform
from gen_jax.data.degradations.noise import check_range

KINDS = ("isotropic", "anisotropic", "generalised", "motion", "defocus", "sinc")
Kernel = Float[np.ndarray, "k k"]


@dataclasses.dataclass(frozen=True)
class Blur:
    """One kernel, of a random kind.

    Attributes:
      sigma: range of the root mean square radius along an axis, in pixels; a ringing sinc cuts
        off where a Gaussian of that deviation has fallen to half.
      kinds: some of `KINDS`, drawn alike often.
    """

    sigma: Range = (0.2, 3.0)
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self):
        check_range("sigma", self.sigma)
        if unknown := set(self.kinds) - set(KINDS):
            raise UserError(
                f"degradation: kinds: {sorted(unknown)[0]!r} is none of {', '.join(KINDS)}"
            )

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        sigma = uniform(rng, self.sigma)
        kind = self.kinds[rng.integers(len(self.kinds))]
        if sigma < 0.1:  # a kernel within one pixel
            return image, {"blur": 0.0}
        return apply(image, make_kernel(kind, sigma, rng)), {"blur": sigma}


def apply(image: Image, kernel: Kernel) -> Image:
    """Filters every channel; the border is mirrored."""
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101).reshape(image.shape)


def make_kernel(kind: str, sigma: float, rng: np.random.Generator) -> Kernel:
    """An odd-sized float32 kernel of sum 1.

    Args:
      kind: one of `KINDS`.
      sigma: root mean square radius along an axis in pixels (the mean of both axes').
      rng: of directions and shapes.
    """
    if kind == "sinc":
        return _sinc(sigma)
    if kind == "motion":
        # A line of length l has the variance l^2 / 12 along itself and none across.
        return _motion(sigma * np.sqrt(24.0), rng.uniform(0.0, np.pi))
    if kind == "defocus":
        return _disc(2.0 * sigma)  # of radius r: r / 2 along either axis
    stretch = 1.0 if kind == "isotropic" else rng.uniform(1.0, 4.0)
    angle = rng.uniform(0.0, np.pi)
    power = rng.uniform(0.5, 4.0) if kind == "generalised" else 1.0
    return _gaussian(sigma, stretch, angle, power)


def _grid(radius: float):
    reach = max(1, int(np.ceil(radius)))
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    return np.meshgrid(at, at, indexing="ij")


def _normal(kernel) -> Kernel:
    return np.float32(kernel / kernel.sum())


def _gaussian(sigma, stretch, angle, power):
    """exp(-(r^2 / 2)^power) along axes whose squared deviations have the mean sigma^2."""
    short = sigma * np.sqrt(2.0 / (1.0 + stretch**2))
    deviations = np.array([short * stretch, short])
    y, x = _grid(3.0 * deviations.max() + 1.0)
    along = (x * np.cos(angle) + y * np.sin(angle)) / deviations[0]
    across = (y * np.cos(angle) - x * np.sin(angle)) / deviations[1]
    # Another power changes the spread: scaled back, so that sigma keeps its meaning.
    spread = np.sqrt(special.gamma(2.0 / power) / special.gamma(1.0 / power))
    return _normal(np.exp(-((((along**2 + across**2) / 2.0) * spread**2) ** power)))


def _motion(length, angle):
    """A straight stroke, drawn with eight samples a pixel and linear weights."""
    kernel = np.zeros_like(_grid(length / 2.0 + 1.0)[0])
    reach = len(kernel) // 2
    for at in np.linspace(-length / 2.0, length / 2.0, max(2, int(8 * length))):
        row, column = at * np.sin(angle) + reach, at * np.cos(angle) + reach
        top, left = int(row), int(column)
        down, right = row - top, column - left
        kernel[top : top + 2, left : left + 2] += np.outer([1 - down, down], [1 - right, right])
    return _normal(kernel)


def _disc(radius):
    """A disc whose edge pixels count by their covered share, to a good approximation."""
    y, x = _grid(radius + 1.0)
    return _normal(np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0))


def _sinc(sigma):
    """The ideal circular low-pass filter: an overshoot such as sharpening and scaling leave."""
    cutoff = min(np.pi, np.sqrt(2.0 * np.log(2.0)) / sigma)
    y, x = _grid(10.0)
    r = np.hypot(x, y)
    kernel = np.where(
        r > 0, cutoff * special.j1(cutoff * r) / (2 * np.pi * np.where(r > 0, r, 1)), 0
    )
    kernel[r == 0] = cutoff**2 / (4 * np.pi)
    return _normal(kernel)
