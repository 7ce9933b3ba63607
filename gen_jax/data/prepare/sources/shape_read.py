"""Reads a picture of the procedural world back into words: what did the model draw?

Colour by the nearest of the vocabulary in CIELAB, objects as connected regions,
shape by overlap with the rendered outlines. Meant for generated pictures, so small
specks, soft edges and slightly wrong colours are put up with.
"""

import functools
import itertools
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from gen_jax.common import pixels
from gen_jax.data.prepare.sources import shape_draw, shape_scene

Reading = dict[str, Any]

_WORKING = 128  # side in pixels at which pictures are read
_SIDE = 64  # of the templates in pixels
_LEAST_AREA = 0.004  # of the image: half of the smallest shape there is
_LEAST_OVERLAP = 0.75  # intersection over union, below which a thing has no name
_ANGLES = (-8.0, -4.0, 0.0, 4.0, 8.0)
_SOFT = (0.0, 0.08, 0.15)  # blur, in radii: a small blurred star has lost its points


@functools.cache
def _palette() -> tuple[tuple[str, ...], np.ndarray]:
    """Names and CIELAB values; backgrounds come after the colours of objects."""
    values = {**shape_scene.COLORS, **shape_scene.BACKGROUNDS}
    rgb = np.array([list(values.values())], np.float32) / 255
    return tuple(values), cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]


def _solid(shape: str, angle: float, soft: float) -> Bool[np.ndarray, "s s"]:
    """A shape without a hole, cropped to its bounding box and enlarged to _SIDE."""
    canvas = np.zeros((256, 256), np.uint8)
    item = {"shape": shape, "angle": angle, "x": 0.5, "y": 0.5, "r": 0.35}
    shape_draw.fill(canvas, item, 255)
    if soft:
        canvas = cv2.GaussianBlur(canvas, (0, 0), soft * item["r"] * canvas.shape[0])
    return _fit(_fill_holes(canvas > 127))


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), found, -1, 1, cv2.FILLED) > 0


def _fit(mask: np.ndarray) -> np.ndarray:
    """Crops to the bounding box and scales its longer side to _SIDE, centred."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    scale = _SIDE / max(part.shape)
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR) > 0.5
    result = np.zeros((_SIDE, _SIDE), bool)
    top, left = (_SIDE - part.shape[0]) // 2, (_SIDE - part.shape[1]) // 2
    result[top : top + part.shape[0], left : left + part.shape[1]] = part
    return result


@functools.cache
def _templates() -> tuple[tuple[str, ...], np.ndarray]:
    """Solid outlines, tilted and blurred a little; a ring is a circle until its hole is seen."""
    names, masks = [], []
    for shape in shape_scene.SHAPES:
        if shape != "ring":
            for angle, soft in itertools.product(_ANGLES, _SOFT):
                names.append(shape)
                masks.append(_solid(shape, angle, soft))
    return tuple(names), np.stack(masks)


def _shape_of(mask: np.ndarray) -> tuple[str, float]:
    solid = _fill_holes(mask)
    names, masks = _templates()
    fitted = _fit(solid)
    overlap = (masks & fitted).sum((1, 2)) / (masks | fitted).sum((1, 2))
    best = int(overlap.argmax())
    name = names[best]
    if name in ("circle", "pentagon") and mask.sum() < 0.88 * solid.sum():
        name = "ring"
    return (name if overlap[best] >= _LEAST_OVERLAP else "unknown"), float(overlap[best])


def _size_of(shape: str, area: float) -> str:
    """The size name whose radii fit the area (in shares of the image) best."""
    if shape not in shape_scene.SHAPES:
        return "unknown"
    radius = _radius_of(shape, area)
    middles = {name: sum(shape_scene.RADII[name]) / 2 for name in ("small", "large")}
    return min(middles, key=lambda name: abs(middles[name] - radius))


def _radius_of(shape: str, area: float) -> float:
    return (area / _unit_area(shape)) ** 0.5 if shape in shape_scene.SHAPES else 0.0


@functools.cache
def _mass_centre(shape: str) -> float:
    """How far below its centre a shape's centre of mass lies, at radius 1."""
    if shape not in shape_scene.SHAPES:
        return 0.0
    # Holes lie in the middle and change nothing.
    found = cv2.moments(shape_draw.outlines(shape)[0].astype(np.float32))
    return found["m01"] / found["m00"]


@functools.cache
def _unit_area(shape: str) -> float:
    """Area of a shape of radius 1, holes not counted."""
    areas = [cv2.contourArea(o.astype(np.float32)) for o in shape_draw.outlines(shape)]
    return areas[0] - sum(areas[1:])


def _position_of(x: float, y: float) -> str:
    middles = shape_scene.POSITIONS
    return min(middles, key=lambda name: (middles[name][0] - x) ** 2 + (middles[name][1] - y) ** 2)


def read_scene(image: UInt8[np.ndarray, "h w 3"]) -> Reading:
    """Says what is in a picture.

    Returns:
      "background" (a name), and "objects": from left to right, dicts of shape, color,
      size, position (names; shape may be "unknown"), x, y (centre, shares of the
      sides) and overlap (how well the shape fits, 0 to 1).
    """
    if max(image.shape[:2]) != _WORKING:
        # Enlarging keeps what soft edges say of an outline; a threshold alone would lose it.
        scale = _WORKING / max(image.shape[:2])
        size = tuple(max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, size, interpolation=kind)
    height, width = image.shape[:2]
    names, palette = _palette()
    lab = cv2.cvtColor(pixels.to_unit(image), cv2.COLOR_RGB2LAB)
    away = ((lab[:, :, None, :] - palette) ** 2).sum(-1)
    border = np.zeros((height, width), bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    first_background = len(shape_scene.COLORS)
    votes = np.bincount(away[border][:, first_background:].argmin(1), minlength=4)
    background = first_background + int(votes.argmax())
    # An edge pixel is a mix: it belongs to the object when it is nearer to any
    # colour of objects than to this background. Other backgrounds are no objects.
    colors = away[:, :, :first_background]
    middle = lab[border].mean(0)
    mask = colors.min(-1) < np.minimum(away[:, :, background], ((lab - middle) ** 2).sum(-1))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    objects = []
    for number in range(1, count):
        area = stats[number, cv2.CC_STAT_AREA] / (height * width)
        if area < _LEAST_AREA:
            continue
        region = labels == number
        # The core of a region names its colour: its rim is a mix with the background.
        core = cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        core = core if core.sum() >= 4 else region
        color = int(np.bincount(colors[core].argmin(-1), minlength=first_background).argmax())
        shape, overlap = _shape_of(region)
        # Unlike the middle of a bounding box, the centre of mass stays where it is in a tilt.
        x, y = ((centres[number] + 0.5) / (width, height)).tolist()
        y -= _mass_centre(shape) * _radius_of(shape, area)
        objects.append(
            {
                "shape": shape,
                "color": names[color],
                "size": _size_of(shape, area),
                "position": _position_of(x, y),
                "x": round(float(x), 4),
                "y": round(float(y), 4),
                "overlap": round(overlap, 4),
            }
        )
    objects.sort(key=lambda item: (item["x"], item["y"]))
    return {"background": names[background], "objects": objects}


def _relation_holds(relation: str, first: dict, second: dict) -> bool:
    across, down = second["x"] - first["x"], second["y"] - first["y"]
    value = {"left of": across, "right of": -across, "above": down, "below": -down}[relation]
    return value > 0.1


def score(facts: dict[str, Any], reading: Reading) -> dict[str, bool]:
    """Which of the stated facts a picture fulfils; names are there only when stated.

    Args:
      facts: of a Prompt.
      reading: of the picture made from it.

    Returns:
      "count", "shape" and "color" (as multisets over the objects), "pair" (the right
      colour on the right shape), and where stated "size", "position", "relation" and
      "background"; "all" says that every one of them holds.
    """
    wanted, found = facts["objects"], reading["objects"]

    def same(*keys: str) -> bool:
        return sorted(tuple(o[k] for k in keys) for o in wanted) == sorted(
            tuple(o[k] for k in keys) for o in found
        )

    result = {
        "count": len(wanted) == len(found),
        "shape": same("shape"),
        "color": same("color"),
        "pair": same("shape", "color"),
    }
    for key in ("size", "position"):
        if key in wanted[0]:
            result[key] = result["count"] and same(key)
    if "relation" in facts:
        pairs = [(o["shape"], o["color"]) for o in wanted]
        places = {(o["shape"], o["color"]): o for o in found}
        result["relation"] = all(pair in places for pair in pairs) and _relation_holds(
            facts["relation"], *(places[pair] for pair in pairs)
        )
    if "background" in facts:
        result["background"] = facts["background"] == reading["background"]
    result["all"] = all(result.values())
    return result
