"""8-bit pixels as floating-point images and back, for arrays of NumPy and of JAX."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

Pixels = UInt8[Any, "*shape"]
Image = Float[Any, "*shape"]


def to_unit(pixels: Pixels) -> Image:
    """Maps pixels 0 to 255 to float32 in [0, 1]."""
    return pixels.astype(np.float32) / 255.0


def from_unit(image: Image) -> Pixels:
    """Maps [0, 1] to pixels 0 to 255, clipped and rounded."""
    return (image.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def to_signed(pixels: Pixels) -> Image:
    """Maps pixels 0 to 255 to float32 in [-1, 1]."""
    return pixels.astype(np.float32) / 127.5 - 1.0


def from_signed(image: Image) -> Pixels:
    """Maps [-1, 1] to pixels 0 to 255, rounded and clipped."""
    return ((image + 1.0) * 127.5).round().clip(0, 255).astype(np.uint8)
