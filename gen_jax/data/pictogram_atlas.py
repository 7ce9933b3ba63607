"""The atlas of pictograms in the package: Fluent Emoji Flat (MIT, see gen_jax/data/pictograms)."""

import functools
import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gen_jax.common.errors import UserError

ATLAS = pathlib.Path(__file__).parent / "pictograms" / "atlas.png"
SIDE, COLUMNS = 96, 12  # pixels of a pictogram in the atlas, and pictograms per row


@functools.cache
def whole() -> UInt8[np.ndarray, "h w 4"]:
    """Returns the whole atlas, RGBA.

    Raises:
      UserError: It is missing.
    """
    if not ATLAS.is_file():
        raise UserError(f"pictograms: {ATLAS} is missing; install gen_jax again")
    with Image.open(ATLAS) as image:
        return np.asarray(image.convert("RGBA"))


def pictogram(index: int) -> UInt8[np.ndarray, "s s 4"]:
    """Returns the pictogram at a place of the atlas, which is counted row by row."""
    row, column = divmod(index, COLUMNS)
    return whole()[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]


def count() -> int:
    """Returns the number of places in the atlas; the last ones may be empty."""
    return whole().shape[0] // SIDE * COLUMNS
