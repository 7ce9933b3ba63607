"""A network over a picture of any size: overlapping tiles, blended, in bounded memory.

Attention sees too far for margins to make tiles exact (`windows` does that for convolutions). So
neighbouring tiles overlap, and each pixel is a mean of theirs whose weights pass from one to the
other along the integral of a Gaussian.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import special

from gen_jax.common.errors import UserError

Source = Callable[[int, int, int, int], Float[np.ndarray, "h w c"]]
"""(top, bottom, left, right) -> that part of the picture."""

Sink = Callable[[int, Float[np.ndarray, "h w c"]], None]
"""(first row, rows in full width), called from the top down."""


def starts(length: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Where tiles begin, at multiples of `multiple`, evenly.

    The last one ends where the picture does, made up to `multiple`, as a network makes up the whole
    picture: its border is treated alike.

    Raises:
      UserError: a tile that its overlap uses up.
    """
    last = -(-length // multiple) * multiple - tile
    if last <= 0:
        return [0]
    step = (tile - overlap) // multiple * multiple
    if step < multiple:
        raise UserError(f"a tile of {tile} is too small for an overlap of {overlap}")
    count = 1 + -(-last // step)
    return [k * last // (count - 1) // multiple * multiple for k in range(count)]


def ramps(begins: list[int], tile: int) -> list[np.ndarray]:
    """Weights of each tile along one axis, [tile] each, whose sum is 1 at every pixel."""
    found = []
    for k, begin in enumerate(begins):
        weight = np.ones(tile)
        at = begin + np.arange(tile) + 0.5
        if k:
            weight *= _rise(at, begin, begins[k - 1] + tile)
        if k + 1 < len(begins):
            weight *= 1.0 - _rise(at, begins[k + 1], begin + tile)
        found.append(np.maximum(weight, 1e-6))
    total = np.zeros(begins[-1] + tile)
    for begin, weight in zip(begins, found):
        total[begin : begin + tile] += weight
    return [np.float32(w / total[b : b + tile]) for b, w in zip(begins, found)]


def _rise(at, begin, end):
    """From 0 to 1 between two places, flat at both: the edges of a tile have seen the least."""
    return 0.5 * (1.0 + special.erf(5.0 * ((at - begin) / (end - begin) - 0.5)))


def apply(
    forward: Callable[[np.ndarray], np.ndarray],
    source: Source,
    size: tuple[int, int],
    sink: Sink,
    *,
    tile: int,
    overlap: int = 64,
    multiple: int = 32,
    scale: int = 1,
    is_padded: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Runs `forward` on every tile and hands the blended rows over.

    Memory beyond the source's and the sink's own is one band of tiles.

    Args:
      forward: [1, tile, tile, c] to the same height and width times `scale`; a picture smaller
        than a tile comes as it is, made up to multiples of `multiple`, unless `is_padded`.
      source: parts of the picture.
      size: its height and width.
      sink: takes rows of the result, in order; they count in pixels of the result.
      tile: side of a tile, a multiple of `multiple`.
      overlap: pixels that neighbours share, at least.
      multiple: tiles begin at multiples of this, as windows of attention ask for.
      scale: Pixels of the result per pixel of the source.
      is_padded: Whether a smaller picture is made up to a whole tile by repeating its last row
        and column, so that `forward` is called with one shape only.
      progress: called with the tiles done and their number.
    """
    height, width = size
    sides = [tile if is_padded else min(tile, -(-side // multiple) * multiple) for side in size]
    rows = starts(height, sides[0], overlap, multiple)
    columns = starts(width, sides[1], overlap, multiple)
    # Sides of a tile of the result.
    large = [scale * side for side in sides]
    down = ramps([scale * row for row in rows], large[0])
    across = ramps([scale * column for column in columns], large[1])
    total, done, band, written = len(rows) * len(columns), 0, None, 0
    for row, (top, weight_y) in enumerate(zip(rows, down)):
        bottom = min(top + sides[0], height)
        for left, weight_x in zip(columns, across):
            right = min(left + sides[1], width)
            part = source(top, bottom, left, right)
            short = (sides[0] - part.shape[0], sides[1] - part.shape[1])
            part = np.pad(part, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
            high, wide = scale * (bottom - top), scale * (right - left)
            found = np.asarray(forward(part[None]))[0][:high, :wide]
            if band is None:
                band = np.zeros((large[0], scale * width, found.shape[-1]), np.float32)
            weight = weight_y[:high, None, None] * weight_x[None, :wide, None]
            band[:high, scale * left : scale * right] += weight * found
            done += 1
            progress(done, total)
        end = rows[row + 1] if row + 1 < len(rows) else height
        sink(scale * written, band[: scale * (end - top)])
        keep = scale * (bottom - end)  # what the next band of tiles adds to
        kept = band[scale * (end - top) : scale * (end - top) + keep].copy()
        band[:] = 0.0
        band[:keep] = kept
        written = end
