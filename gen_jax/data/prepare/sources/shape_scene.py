"""The procedural world: its vocabulary, and random scenes made of it.

A scene is a plain dict that JSON can hold:

  kind: "single" (one object), "group" (2 or 3 alike) or "relation" (two that differ)
  background: one of BACKGROUNDS
  relation: for "relation", how the first object lies to the second ("left of", ...), else None
  objects: dicts of shape, color, size, position, x, y, r, angle

Lengths are fractions of the image's side, x to the right and y downwards, angles in degrees.
"""

from typing import Any

import numpy as np

from gen_jax.data.text.phrases import pick

Scene = dict[str, Any]

# Raise it when scenes, drawing or wording change: old shards then count as another data set.
WORLD_VERSION = 5

SHAPES = ("circle", "square", "triangle", "star", "pentagon", "cross", "ring", "heart")

# Far apart in CIELAB, from each other and from every background (a test holds them to it).
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 38),
    "orange": (250, 130, 16),
    "yellow": (252, 222, 40),
    "green": (32, 165, 62),
    "cyan": (50, 210, 225),
    "blue": (20, 82, 228),
    "purple": (160, 40, 180),
    "pink": (252, 140, 196),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (248, 248, 248),
    "black": (14, 14, 14),
    "gray": (128, 128, 128),
    "brown": (98, 58, 30),
}

# Name -> (x, y) of the middle of the place.
POSITIONS: dict[str, tuple[float, float]] = {
    "center": (0.5, 0.5),
    "left": (0.36, 0.5),
    "right": (0.64, 0.5),
    "top": (0.5, 0.36),
    "bottom": (0.5, 0.64),
    "top left": (0.36, 0.36),
    "top right": (0.64, 0.36),
    "bottom left": (0.36, 0.64),
    "bottom right": (0.64, 0.64),
}

# Radii by size name, as large as the places leave room for: what covers little of the image
# has little weight in a squared error, and a small model learns it late. Sizes are only spoken
# of where there is one object, so "medium" has no word.
RADII: dict[str, tuple[float, float]] = {
    "small": (0.17, 0.19),
    "medium": (0.15, 0.17),
    "large": (0.27, 0.29),
}

# Pairs that no training scene holds: every shape once and every colour once, so
# that each word is well known and only their combination is new.
HELDOUT: tuple[tuple[str, str], ...] = (
    ("circle", "purple"),
    ("square", "cyan"),
    ("triangle", "pink"),
    ("star", "blue"),
    ("pentagon", "red"),
    ("cross", "yellow"),
    ("ring", "orange"),
    ("heart", "green"),
)

_PAIRS = [(shape, color) for shape in SHAPES for color in COLORS]
TRAIN_PAIRS: tuple[tuple[str, str], ...] = tuple(p for p in _PAIRS if p not in HELDOUT)

RELATIONS = ("left of", "right of", "above", "below")

# Single objects are the larger part: they are what a small model learns first.
_KINDS = ("single", "group", "relation")
_KIND_SHARES = (0.6, 0.2, 0.2)

_JITTER = 0.02  # of a named place, each way
_TILT = 8.0  # degrees each way: alive, yet a square stays no diamond


def pair_index(shape: str, color: str) -> int:
    """Class of a (shape, colour) pair, in 0 .. 63."""
    return SHAPES.index(shape) * len(COLORS) + list(COLORS).index(color)


def pair_names() -> list[str]:
    """Names of all classes, "red circle" and so on, by `pair_index`."""
    return [f"{color} {shape}" for shape, color in _PAIRS]


def _object(rng: np.random.Generator, pair, size: str, x: float, y: float, place) -> Scene:
    low, high = RADII[size]
    tilt = 0.0 if pair[0] in ("circle", "ring") else float(rng.uniform(-_TILT, _TILT))
    return {
        "shape": pair[0],
        "color": pair[1],
        "size": size,
        "position": place,
        "x": round(x, 4),
        "y": round(y, 4),
        "r": round(float(rng.uniform(low, high)), 4),
        "angle": round(tilt, 2),
    }


def _single(rng: np.random.Generator, pair) -> list[Scene]:
    size = pick(("small", "large"), rng)
    place = pick(tuple(POSITIONS), rng)
    x, y = (v + float(rng.uniform(-_JITTER, _JITTER)) for v in POSITIONS[place])
    item = _object(rng, pair, size, x, y, place)
    edge = _reach(item["r"])
    inside = {axis: round(min(max(item[axis], edge), 1.0 - edge), 4) for axis in ("x", "y")}
    return [{**item, **inside}]


def _reach(r: float) -> float:
    """How near the edge of the image a centre may lie: points of stars stay a pixel inside."""
    return 1.22 * r + 0.016


def _group(rng: np.random.Generator, pair) -> list[Scene]:
    count = pick((2, 3), rng)
    model = _object(rng, pair, "medium", 0.5, 0.5, None)
    # Far enough apart that points of stars never touch, and inside the frame.
    gap, edge = 2.5 * model["r"], _reach(model["r"])
    while True:
        spots = rng.uniform(edge, 1.0 - edge, size=(count, 2))
        away = np.linalg.norm(spots[:, None] - spots[None, :], axis=-1)
        if away[np.triu_indices(count, 1)].min() >= gap:
            break
    order = np.lexsort((spots[:, 1], spots[:, 0]))
    return [
        {**model, "x": round(float(x), 4), "y": round(float(y), 4)}
        for x, y in spots[order].tolist()
    ]


def _relation(rng: np.random.Generator, first, second) -> tuple[str, list[Scene]]:
    relation = pick(RELATIONS, rng)
    spots = {
        "left of": ((0.26, 0.5), (0.74, 0.5)),
        "right of": ((0.74, 0.5), (0.26, 0.5)),
        "above": ((0.5, 0.26), (0.5, 0.74)),
        "below": ((0.5, 0.74), (0.5, 0.26)),
    }[relation]
    objects = []
    for pair, spot in zip((first, second), spots, strict=True):
        x, y = (v + float(rng.uniform(-_JITTER, _JITTER)) for v in spot)
        objects.append(_object(rng, pair, "medium", x, y, None))
    return relation, objects


def random_scene(
    rng: np.random.Generator,
    *,
    heldout: bool = False,
    kind: str | None = None,
    pair: tuple[str, str] | None = None,
) -> Scene:
    """Draws a scene.

    Args:
      rng: where all randomness comes from.
      heldout: every scene then holds a pair of HELDOUT; otherwise none does.
      kind: "single", "group" or "relation"; drawn when None.
      pair: (shape, colour) of the first object; drawn when None.
    """
    kind = kind or str(rng.choice(_KINDS, p=_KIND_SHARES))
    pair = pair or pick(HELDOUT if heldout else TRAIN_PAIRS, rng)
    background = pick(tuple(BACKGROUNDS), rng)
    relation = None
    if kind == "single":
        objects = _single(rng, pair)
    elif kind == "group":
        objects = _group(rng, pair)
    elif kind == "relation":
        other = pick([p for p in TRAIN_PAIRS if p != pair], rng)
        relation, objects = _relation(rng, pair, other)
    else:
        raise ValueError(f"unknown kind of scene {kind!r}, expected one of {_KINDS}")
    return {"kind": kind, "background": background, "relation": relation, "objects": objects}
