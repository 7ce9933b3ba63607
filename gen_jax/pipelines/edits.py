"""Images and masks as image-to-image sampling takes them, and what is made of its results."""

import math

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from gen_jax.common.errors import UserError

Size = tuple[int, int]
"""Width and height in pixels."""

STRENGTH, STRENGTH_OF_MASKED = 0.8, 1.0
"""Strengths by default, without and with a mask: those of diffusers."""

_MAX_STRETCH = 1.01  # ratio of proportions up to which no note is written
_WHITE = 128


def resized(image: UInt8[np.ndarray, "h w 3"], size: Size) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Returns an image in another size (Lanczos), whatever its proportions."""
    if image.shape[:2] == size[::-1]:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def repainted(mask: UInt8[np.ndarray, "*shape"], size: Size) -> Bool[np.ndarray, "h w"]:
    """Returns which pixels of an image of this size are repainted: those whose mask is white.

    Args:
      mask: Gray [h, w] or [h, w, 3] of any size; values of 128 and more count as white.
      size: Size of the image.

    Raises:
      UserError: Nothing is white.
    """
    gray = Image.fromarray(mask).convert("L")
    if gray.size != size:
        gray = gray.resize(size, Image.Resampling.LANCZOS)
    white = np.asarray(gray) >= _WHITE
    if not white.any():
        raise UserError("mask: nothing in it is white; paint white what is to be repainted")
    return white


def kept_latents(white: Bool[np.ndarray, "h w"], factor: int) -> Bool[np.ndarray, "h2 w2 1"]:
    """Returns which latents keep the image: those of whose pixels none is repainted.

    Diffusers reads the top left pixel of each latent alone, and may miss thin lines.
    """
    height, width = (length // factor for length in white.shape)
    cells = white.reshape(height, factor, width, factor)
    return ~cells.any(axis=(1, 3))[..., None]


def check_proportions(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "*shape"]) -> None:
    """Raises UserError unless the mask has the proportions of its image."""
    (height, width), (rows, columns) = image.shape[:2], mask.shape[:2]
    if _stretch((width, height), (columns, rows)) > _MAX_STRETCH:
        raise UserError(
            f"mask: {columns}x{rows}, and its image {width}x{height}; expected the same proportions"
        )


def stretch_note(size: Size, sampled: Size, multiple: int) -> str | None:
    """Returns a line about an image whose proportions are not those of the sampling size.

    Args:
      size: Size of the image.
      sampled: Size that it is resized to.
      multiple: What widths and heights are multiples of.
    """
    if _stretch(size, sampled) <= _MAX_STRETCH:
        return None
    scale = math.sqrt(sampled[0] * sampled[1] / (size[0] * size[1]))
    width, height = (max(1, round(scale * side / multiple)) * multiple for side in size)
    line = f"an image of {size[0]}x{size[1]} is resized to {sampled[0]}x{sampled[1]}, which"
    if (width, height) == tuple(sampled):
        return f"{line} changes its proportions"
    return f"{line} changes its proportions; a size of {width}x{height} is nearer to them"


def _stretch(first: Size, second: Size) -> float:
    ratio = first[0] * second[1] / (first[1] * second[0])
    return max(ratio, 1 / ratio)
