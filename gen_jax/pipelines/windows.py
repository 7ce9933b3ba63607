"""A convolutional network over an image of any size, in bounded memory and with the same result."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def apply(
    forward: Callable[[np.ndarray], np.ndarray],
    image: Float[np.ndarray, "h w c"],
    reach: int,
    side: int = 768,
    multiple: int = 2,
) -> Float[np.ndarray, "h w d"]:
    """Runs `forward` on overlapping windows, if the image is larger than one.

    What lies within `reach` of a window's inner edge is thrown away, so that the result is that of
    the whole image. All windows are of one size, which compiles once.

    Args:
      forward: [1, h, w, c] to [1, h, w, d], the same at every place but for the image's borders.
      image: to restore.
      reach: pixels in each direction that a pixel of the result depends on.
      side: of a window, in pixels, with its margins.
      multiple: windows begin at multiples of this, as strides in `forward` ask for.
    """
    height, width = image.shape[:2]
    rows = _windows(height, reach, side, multiple)
    columns = _windows(width, reach, side, multiple)
    out = None
    for top, bottom, keep_top, keep_bottom in rows:
        for left, right, keep_left, keep_right in columns:
            part = np.asarray(forward(image[None, top:bottom, left:right]))[0]
            if out is None:
                out = np.empty((height, width, part.shape[-1]), part.dtype)
            out[keep_top:keep_bottom, keep_left:keep_right] = part[
                keep_top - top : keep_bottom - top, keep_left - left : keep_right - left
            ]
    return out


def _windows(length: int, reach: int, side: int, multiple: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, first kept, past the last kept) of the windows along one direction."""
    side -= side % multiple
    step = side - 2 * (reach + multiple)
    if length <= side:
        return [(0, length, 0, length)]
    if step < multiple:
        raise ValueError(f"side={side}: expected more than twice the reach of {reach}")
    found, kept = [], 0
    while kept < length:
        start = max(kept - reach, 0) // multiple * multiple
        # The last window ends with the image: its size may fall short by less than `multiple`.
        start = min(start, -(-(length - side) // multiple) * multiple)
        stop = min(start + side, length)
        end = length if stop == length else stop - reach
        found.append((start, stop, kept, end))
        kept = end
    return found
