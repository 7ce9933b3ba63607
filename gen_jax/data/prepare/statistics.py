"""Statistics of images as exact integer sums: merged in any grouping they come out the same."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import UInt8

Sums = dict[str, Any]


def empty() -> Sums:
    """Sums over no image."""
    return {
        "images": 0,
        "captioned": 0,
        "pixels": 0,
        "sum": [0, 0, 0],
        "sum_sq": [0, 0, 0],
        "height": [1 << 30, 0, 0],  # least, most, sum
        "width": [1 << 30, 0, 0],
    }


def of_image(pixels: UInt8[np.ndarray, "h w 3"], captioned: bool) -> Sums:
    """Sums over one image."""
    height, width = pixels.shape[:2]
    flat = pixels.reshape(-1, 3)
    # Counting levels is exact and several times faster than squaring 64-bit copies.
    levels = np.arange(256, dtype=np.int64)
    counts = [np.bincount(flat[:, channel], minlength=256) for channel in range(3)]
    return {
        "images": 1,
        "captioned": int(captioned),
        "pixels": height * width,
        "sum": [int(count @ levels) for count in counts],
        "sum_sq": [int(count @ (levels * levels)) for count in counts],
        "height": [height, height, height],
        "width": [width, width, width],
    }


def merge(parts: Iterable[Sums]) -> Sums:
    """Sums over all parts together."""
    total = empty()
    for part in parts:
        for name in ("images", "captioned", "pixels"):
            total[name] += part[name]
        for name in ("sum", "sum_sq"):
            total[name] = [a + b for a, b in zip(total[name], part[name], strict=True)]
        for name in ("height", "width"):
            (low, high, whole), (low2, high2, whole2) = total[name], part[name]
            total[name] = [min(low, low2), max(high, high2), whole + whole2]
    return total


def summary(sums: Sums) -> dict[str, Any]:
    """What dataset.json says of a split: channels are RGB in [0, 1], sides in pixels."""
    pixels, images = max(1, sums["pixels"]), max(1, sums["images"])
    mean = [s / pixels for s in sums["sum"]]
    square = [s / pixels for s in sums["sum_sq"]]
    std = [max(0.0, q - m * m) ** 0.5 for q, m in zip(square, mean, strict=True)]
    result = {
        "records": sums["images"],
        "captioned": sums["captioned"],
        "channel_mean": [round(m / 255, 6) for m in mean],
        "channel_std": [round(s / 255, 6) for s in std],
    }
    for name in ("height", "width"):
        low, high, whole = sums[name]
        result[name] = {"min": low, "mean": round(whole / images, 2), "max": high}
    return result
