"""Images enlarged by a whole factor part by part, or resized to an exact size."""

import math

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from gen_jax.data.degradations.bicubic import imresize, to_size
from gen_jax.data.photographs.reading import Pixels

LARGEST = 4
"""Largest factor that restorers are trained on."""
# Low-resolution pixels around a tile that its enlargement reads: half of the cubic kernel and some.
_MARGIN = 4


class Enlarged:
    """Parts of an image as float32 in [0, 1], enlarged by MATLAB's bicubic as they are read.

    Attributes:
      size: Height and width, enlarged.
    """

    def __init__(self, pixels: Pixels, scale: int):
        """Takes pixels of 8 or 16 bits and a whole factor."""
        self._pixels, self._scale = pixels, scale
        self._top = np.float32(np.iinfo(pixels.dtype).max)
        self.size = (pixels.shape[0] * scale, pixels.shape[1] * scale)

    def __call__(self, top: int, bottom: int, left: int, right: int) -> Float[np.ndarray, "h w c"]:
        """Returns one part."""
        s = self._scale
        if s == 1:
            return self._pixels[top:bottom, left:right] / self._top
        (t, b), (l, r) = (
            (max(0, low // s - _MARGIN), min(side, -(-high // s) + _MARGIN))
            for low, high, side in zip((top, left), (bottom, right), self._pixels.shape)
        )
        large = imresize(self._pixels[t:b, l:r] / self._top, s)
        return np.clip(large[top - t * s : bottom - t * s, left - l * s : right - l * s], 0.0, 1.0)

    def whole(self) -> Pixels:
        """Returns the whole enlarged image in the depth of its pixels."""
        image = self(0, self.size[0], 0, self.size[1])
        return np.round(image * self._top).astype(self._pixels.dtype)


def scale_for(size: tuple[int, int], wanted: tuple[int, int]) -> int:
    """Returns the least whole factor, from 1, that makes both sides at least as long as wanted.

    Args:
      size: Width and height of the image.
      wanted: Width and height of the result.
    """
    return max(1, *(math.ceil(new / old) for new, old in zip(wanted, size)))


def resized(
    pixels: Pixels, size: tuple[int, int]
) -> UInt8[np.ndarray, "h2 w2 c"] | UInt16[np.ndarray, "h2 w2 c"]:
    """Resizes by antialiased bicubic to an exact size.

    Args:
      pixels: [h, w, c] of 8 or 16 bits.
      size: Width and height.
    """
    if pixels.shape[1::-1] == size:
        return pixels
    top = np.float32(np.iinfo(pixels.dtype).max)
    image = to_size(pixels / top, size[::-1])
    return np.round(np.clip(image, 0.0, 1.0) * top).astype(pixels.dtype)
