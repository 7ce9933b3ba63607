"""What a degradation is, and the numbers that say how strong it was."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import pixels

Image = Float[np.ndarray, "h w c"]
Range = tuple[float | int, float | int]

# Name -> the value that counts as 1. What a noise estimator is asked for.
SCALES = {
    "sigma": 75.0,  # deviation of additive noise, in 8-bit units
    "shot": 30.0,  # deviation of photon noise at white, in 8-bit units
    "blur": 4.0,  # root mean square radius of the kernel, in pixels
    "jpeg": 100.0,  # 100 - quality
    "scale": 2.0,  # binary logarithm of the factor it was shrunk by
    "error": 50.0,  # root mean square difference from the clean picture, in 8-bit units
}
PARAMETERS = tuple(SCALES)


@runtime_checkable
class Degradation(Protocol):
    """A frozen dataclass of numbers; draws its strength and applies itself."""

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        """Degrades one image.

        Args:
          image: in [0, 1] or, after noise that nobody clipped, beyond; float32, c = 1 or 3.
          rng: decides everything that is random.

        Returns:
          the result, of the same shape, and what was drawn: name of `PARAMETERS` -> value.
        """


def as_vector(values: Mapping[str, float]) -> Float[np.ndarray, " p"]:
    """What was drawn as numbers of about 0 to 1, in the order of `PARAMETERS`; absent is 0."""
    return np.float32([values.get(k, 0.0) / SCALES[k] for k in PARAMETERS])


def combined(first: Mapping[str, float], then: Mapping[str, float]) -> dict[str, float]:
    """Of two degradations one after the other: deviations and radii add up as squares, factors
    and their logarithms add up, of two codecs the worse one counts.
    """
    out = dict(first)
    for name, value in then.items():
        before = out.get(name, 0.0)
        if name == "jpeg":
            out[name] = max(before, value)
        elif name == "scale":
            out[name] = before + value
        else:
            out[name] = float(np.hypot(before, value))
    return out


def error(clean: UInt8[np.ndarray, "h w c"], degraded: Image) -> dict[str, float]:
    """How far a picture is from the clean one, whatever was done to it: "error" and its value."""
    squares = np.square(np.float32(clean) - np.float32(255.0) * degraded)
    return {"error": float(np.sqrt(squares.mean()))}


def to_bytes(image: Float[np.ndarray, "*b h w c"]) -> UInt8[np.ndarray, "*b h w c"]:
    """Converts [0, 1] to uint8, clipped and rounded."""
    return pixels.from_unit(image)


def from_bytes(image: np.ndarray) -> Image:
    """Converts uint8 [h, w] or [h, w, c] to float32 [h, w, c] in [0, 1]."""
    return pixels.to_unit(image[..., None] if image.ndim == 2 else image)


def resize(image: Image, size: tuple[int, int], how: int) -> Float[np.ndarray, "height width c"]:
    """To (height, width) by one of OpenCV's filters; keeps a single channel's axis."""
    return cv2.resize(image, size[::-1], interpolation=how).reshape(*size, image.shape[2])


def uniform(rng: np.random.Generator, bounds: Range) -> float:
    """A number between two bounds."""
    return float(rng.uniform(*bounds))
