"""Reads an image of a pictogram: background, color, and features of its shape.

Meant for generated images, so specks and slightly wrong colors are tolerated. The subject is for a
probe on `shape_features`, which are gray.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from gen_jax.data.prepare.sources import pictogram_draw
from gen_jax.data.prepare.sources.pictogram_scene import BACKGROUNDS, COLORS, Scene

SHAPE_SIDE = 24  # pixels of the gray square that `shape_features` flattens
_RING = 2  # pixels at the border that show the background
_LEAST_DIFFERENCE = 30  # of a channel, between pictogram and background
_LEAST_AREA = 6  # pixels of a part that counts
_FARTHEST = 45.0  # mean absolute difference beyond which a background has no name
_BINS = 18  # of the hue


class Reading(NamedTuple):
    """What an image shows.

    Attributes:
      background: One of BACKGROUNDS, None for none of them.
      box: Top, left and side of the square around the pictogram in pixels, None if there is nothing
        on the background.
      mask: Where the pictogram is, bool `[h, w]`.
    """

    background: str | None
    box: tuple[float, float, float] | None
    mask: np.ndarray


def read(image: UInt8[np.ndarray, "h w 3"]) -> Reading:
    """Reads background and outline."""
    color = _background(image)
    names = np.array(list(BACKGROUNDS.values()), np.float32)
    away = np.abs(names - color).mean(1)
    background = list(BACKGROUNDS)[away.argmin()] if away.min() < _FARTHEST else None
    mask = _foreground(image, color)
    if not mask.any():
        return Reading(background, None, mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = float(max(bottom - top, right - left))
    y, x = (top + bottom) / 2, (left + right) / 2
    return Reading(background, (y - side / 2, x - side / 2, side), mask)


def _background(image: np.ndarray) -> np.ndarray:
    ring = np.ones(image.shape[:2], bool)
    ring[_RING:-_RING, _RING:-_RING] = False
    return np.median(image[ring].astype(np.float32), axis=0)


def _foreground(image: np.ndarray, background: np.ndarray) -> Bool[np.ndarray, "h w"]:
    differs = np.abs(image.astype(np.float32) - background).max(-1) > _LEAST_DIFFERENCE
    _, labels, stats, _ = cv2.connectedComponentsWithStats(differs.astype(np.uint8))
    kept = stats[:, cv2.CC_STAT_AREA] >= _LEAST_AREA
    kept[0] = False
    return kept[labels]


def shape_features(images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """Returns the square around each pictogram, gray, 24x24, in units of its own contrast."""
    return np.stack([_shape(image) for image in images])


def _shape(image: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    reading = read(image)
    if reading.box is None:
        return np.zeros(SHAPE_SIDE**2, np.float32)
    gray -= np.median(gray[~reading.mask]) if (~reading.mask).any() else 0.0
    top, left, side = reading.box
    # Averages what falls into a pixel where it shrinks.
    scale = SHAPE_SIDE / side
    if scale < 1:
        gray = cv2.GaussianBlur(gray, (0, 0), 0.4 / scale)
    move = np.array([[scale, 0, 0.5 * scale - 0.5 - left * scale],
                     [0, scale, 0.5 * scale - 0.5 - top * scale]])  # fmt: skip
    square = cv2.warpAffine(gray, move, (SHAPE_SIDE, SHAPE_SIDE), flags=cv2.INTER_LINEAR)
    # Lighter or darker than the background is the background's doing.
    square = np.abs(square)
    return (square / max(np.sqrt(np.mean(square**2)), 1.0)).reshape(-1)


def read_color(image: UInt8[np.ndarray, "h w 3"], subject: str) -> str:
    """Returns the color whose rendering of this subject has the most similar hues."""
    known = _templates(subject)
    mine = _hues(image, read(image).mask)
    return min(known, key=lambda name: np.abs(known[name] - mine).sum())


@functools.cache
def _templates(subject: str) -> dict[str, np.ndarray]:
    scene = Scene(subject=subject, background="white", side=0.86, left=0.07, top=0.07)
    out = {}
    for color in COLORS:
        image = pictogram_draw.draw({**scene, "color": color}, 64)
        out[color] = _hues(image, read(image).mask)
    return out


def _hues(image: np.ndarray, mask: np.ndarray) -> Float[np.ndarray, " bins"]:
    """Returns the shares of hues and of grays in the masked pixels."""
    if not mask.any():
        return np.zeros(_BINS + 3)
    hue, saturation, value = pictogram_draw.to_hsv(image[mask] / 255.0)
    colorful = (saturation > 0.25) & (value > 0.25)
    hues = np.histogram(hue[colorful], _BINS, (0, 360))[0].astype(float)
    hues = 0.5 * hues + 0.25 * (np.roll(hues, 1) + np.roll(hues, -1))
    grays = np.histogram(value[~colorful], 3, (0, 1.001))[0]
    return np.concatenate([hues, grays]) / mask.sum()
