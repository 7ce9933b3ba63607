"""Draws a scene of the procedural world, antialiased."""

import functools
import math

import cv2
import numpy as np
from jaxtyping import UInt8

from gen_jax.data.prepare.sources import shape_scene

_SHIFT = 4  # fillPoly takes fixed-point corners with this many fractional bits


def _regular(corners: int, radius: float, inner: float | None = None) -> np.ndarray:
    """A regular polygon, or a star when `inner` is given, with one corner straight up."""
    steps = corners if inner is None else 2 * corners
    angle = 2 * math.pi * np.arange(steps) / steps - math.pi / 2
    radii = np.full(steps, radius)
    if inner is not None:
        radii[1::2] = inner
    return np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    # The curve spans 32 x 29 and hangs below its origin; centre it.
    return np.stack([x, y - (y.max() + y.min()) / 2], axis=1) / 15.5


@functools.cache
def outlines(shape: str) -> tuple[np.ndarray, ...]:
    """Closed outlines of a shape of radius about 1 (a second one cuts a hole), [n, 2] each.

    Sizes are balanced so that shapes of one radius look about equally large.
    """
    if shape == "circle":
        return (_regular(96, 0.98),)
    if shape == "ring":
        return (_regular(96, 1.02), _regular(96, 0.55))
    if shape == "square":
        return (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.86,)
    if shape == "triangle":
        return (_regular(3, 1.18) + np.array([0.0, 0.2]),)
    if shape == "pentagon":
        return (_regular(5, 1.06),)
    if shape == "star":
        return (_regular(5, 1.18, 0.46),)
    if shape == "heart":
        return (_heart(),)
    if shape == "cross":
        a, b = 0.32, 1.02
        ends = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
        return (np.array(ends + [(-x, -y) for x, y in ends], dtype=np.float64),)
    raise ValueError(f"unknown shape {shape!r}, expected one of {shape_scene.SHAPES}")


def fill(canvas: np.ndarray, item: dict, color) -> None:
    """Fills one object's outlines into `canvas` ([s, s, 3] or [s, s], uint8) in place, aliased."""
    side = canvas.shape[0]
    angle = math.radians(item["angle"])
    turn = np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]],
    )
    centre = np.array([item["x"], item["y"]])
    corners = []
    for outline in outlines(item["shape"]):
        # -0.5: pixel i covers [i, i + 1), and OpenCV names it by its middle.
        points = (outline @ turn * item["r"] + centre) * side - 0.5
        corners.append(np.round(points * (1 << _SHIFT)).astype(np.int32))
    cv2.fillPoly(canvas, corners, color, lineType=cv2.LINE_8, shift=_SHIFT)


def draw(attributes: dict, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Renders a scene.

    Drawn several times larger and averaged down, so that edges are smooth.

    Args:
      attributes: a scene, see `shape_scene`.
      size: side of the image in pixels.
    """
    factor = max(2, min(6, 1024 // size))
    side = size * factor
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = shape_scene.BACKGROUNDS[attributes["background"]]
    for item in attributes["objects"]:
        fill(canvas, item, shape_scene.COLORS[item["color"]])
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
