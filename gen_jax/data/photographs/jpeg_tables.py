"""The quality that a JPEG file was saved at, read from its quantization tables."""

from collections.abc import Mapping, Sequence

import numpy as np

# Sorted, because readers differ in the order: table K.1 of ITU-T T.81, for luma.
_LUMA = np.sort(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


def quality_of(tables: Mapping[int, Sequence[int]]) -> int | None:
    """Returns the quality from 1 to 100 at which libjpeg's luma table is nearest to the file's.

    Tables of cameras and other encoders are no multiples of libjpeg's. They get the quality that
    quantizes about as coarsely.

    Args:
      tables: Pillow's `Image.quantization`: index of a table -> its 64 steps.

    Returns:
      The quality; None if there is no table of 64 steps.
    """
    steps = np.sort(np.asarray(tables.get(0, ()), np.float64))
    if steps.size != _LUMA.size:
        return None
    distances = [
        np.abs(np.log(_scaled(quality) / np.maximum(steps, 1.0))).sum() for quality in range(1, 101)
    ]
    return 1 + int(np.argmin(distances))


def _scaled(quality: int) -> np.ndarray:
    """Returns libjpeg's luma table at a quality, sorted."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_LUMA * percent + 50) // 100, 1, 255)
