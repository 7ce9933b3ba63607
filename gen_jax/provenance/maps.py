"""Maps of what a restoration changed, as PNG files that lie beside the image.

The edit map is exact: it compares the finished file with its original. It says where and by how
much values differ, not whether the change is right. The error map is a prediction of how far the
result is from the undegraded image.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt16

from gen_jax.common import results
from gen_jax.data import images
from gen_jax.data.photographs import png_chunks
from gen_jax.data.photographs.reading import Photograph

Rows = Callable[[int, int], Float[np.ndarray, "h w c"]]
"""Returns the rows from one index up to another, values in [0, 1]."""

UNIT = "largest absolute difference over the channels, in 1/65535 of the range of values"
ENDINGS = (results.EDIT_MAP, results.EDIT_PREVIEW)
"""Endings of the files of the edit map, which are added to the name of the image."""

ERROR_UNIT = "expected absolute error, mean over the channels, in 1/65535 of the range of values"
ERROR_ENDINGS = (results.ERROR_MAP, results.ERROR_PREVIEW)
"""Endings of the files of the error map."""

_ROWS = 256  # compared at once, so that a large image needs little memory
_TOP = 65535
_BRIGHTEST = 99.9  # percentile of the map that is the brightest color of the preview


@dataclasses.dataclass(frozen=True)
class Map:
    """A map and what a manifest says of it.

    Attributes:
      name: Its key in the manifest.
      ending: Ending of its file, which is added to the name of the image.
      content: The file.
      facts: Statistics for the manifest.
    """

    name: str
    ending: str
    content: bytes
    facts: dict[str, Any]


def edit_maps(before: Rows, after: Photograph) -> list[Map]:
    """Returns the edit map of a restored image and its preview.

    Args:
      before: The original at the size of the result, by rows; one channel or three.
      after: The result, decoded from its file.
    """
    values = _differences(before, after)
    facts = {
        "unit": UNIT,
        "largest": round(float(values.max()) / _TOP, 6),
        "mean": round(float(values.mean()) / _TOP, 6),
        "changed": round(float(np.count_nonzero(values)) / values.size, 6),
    }
    preview = images.encode(_preview(values), "png")
    return [
        Map("edit", results.EDIT_MAP, png_chunks.encode(values[..., None]), facts),
        Map("edit_preview", results.EDIT_PREVIEW, preview, {}),
    ]


def error_maps(error: Float[np.ndarray, "h w"], threshold: float | None = None) -> list[Map]:
    """Returns the map of the expected error and its preview.

    Args:
      error: Expected absolute error of each pixel, in 1/255 of the range of values.
      threshold: Expected error up to which a calibration trusts pixels; None without one.
    """
    values = np.clip(np.round(error * (_TOP / 255.0)), 0, _TOP).astype(np.uint16)
    facts = {
        "unit": ERROR_UNIT,
        "largest": round(float(values.max()) / _TOP, 6),
        "mean": round(float(values.mean()) / _TOP, 6),
    }
    if threshold is not None:
        facts["trusted"] = round(float(np.mean(error <= threshold)), 6)
    preview = images.encode(_preview(values), "png")
    return [
        Map("error", results.ERROR_MAP, png_chunks.encode(values[..., None]), facts),
        Map("error_preview", results.ERROR_PREVIEW, preview, {}),
    ]


def _differences(before: Rows, after: Photograph) -> UInt16[np.ndarray, "h w"]:
    values = np.empty(after.pixels.shape[:2], np.uint16)
    for first in range(0, len(values), _ROWS):
        new = after.pixels[first : first + _ROWS] / np.float32(after.top)
        gap = np.abs(new - before(first, first + len(new))).max(-1)
        # A change below half a step of the map is still a change.
        scaled = np.where(gap > 0.0, np.maximum(np.round(gap * _TOP), 1.0), 0.0)
        values[first : first + len(new)] = np.minimum(scaled, _TOP)
    return values


def _preview(values: UInt16[np.ndarray, "h w"]) -> np.ndarray:
    """Returns the map in colors, from black for no change to light yellow, uint8 [h, w, 3]."""
    top = max(float(np.percentile(values, _BRIGHTEST)), 1.0)
    levels = np.clip(np.round(values * (255.0 / top)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
