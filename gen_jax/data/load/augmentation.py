"""Rotations, flips and color jitter: steps of the loader, see `steps`."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Example = dict[str, Any]
Transform = Callable[[Example, np.random.Generator], Example]

# Words that a mirror image would make a lie of.
_SIDES = re.compile(r"\b(left|right|leftmost|rightmost|clockwise)\b", re.IGNORECASE)


def names_a_side(captions: Sequence[str]) -> bool:
    """Whether any caption would be wrong of the mirror image."""
    return any(_SIDES.search(text) for text in captions)


def turn_and_flip() -> Transform:
    """One of the eight symmetries of the square: a texture has no right way up."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = np.rot90(example["image"], int(rng.integers(4)))
        return {**example, "image": image[:, ::-1] if rng.random() < 0.5 else image}

    return run


def horizontal_flip(probability: float = 0.5) -> Transform:
    """Mirrors images, except where a caption names a side or "no_flip" is among the attributes."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        flip = rng.random() < probability
        held = example["attributes"].get("no_flip") or names_a_side(example["captions"])
        if not flip or held:
            return example
        return {**example, "image": example["image"][:, ::-1]}

    return run


def mirrored_features(names: Sequence[str], probability: float = 0.5) -> Transform:
    """As `horizontal_flip`, with the grids among the features mirrored, too.

    A tower's features of the mirror image are not quite the mirrored ones of the image: patches
    are, and positions are learnt.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        flip = rng.random() < probability
        held = example["attributes"].get("no_flip") or names_a_side(example["captions"])
        if not flip or held:
            return example
        grids = {n: example[n][:, ::-1] for n in names if example[n].ndim == 3}
        return {**example, "image": example["image"][:, ::-1], **grids}

    return run


def symmetric() -> Transform:
    """As `turn_and_flip`, except where a caption names a side or "no_flip" is an attribute."""
    turn = turn_and_flip()

    def run(example: Example, rng: np.random.Generator) -> Example:
        turned = turn(example, rng)
        held = example["attributes"].get("no_flip") or names_a_side(example["captions"])
        return example if held else turned

    return run


def jitter_color(strength: float) -> Transform:
    """Scales brightness, contrast and saturation, each by a factor in 1 +- `strength`."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        light, contrast, saturation = 1.0 + strength * rng.uniform(-1.0, 1.0, 3)
        x = example["image"].astype(np.float32) * light
        x = (x - x.mean()) * contrast + x.mean()
        gray = x.mean(-1, keepdims=True)
        x = (x - gray) * saturation + gray
        return {**example, "image": np.clip(np.rint(x), 0, 255).astype(np.uint8)}

    return run


def saturate(probability: float | int, most: float | int = 3.0) -> Transform:
    """Multiplies the saturation of an image by a factor of 1 to `most`, with a probability.

    Photographs hold little saturated texture, which a network that has seen none takes for noise.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= probability:
            return example
        x = example["image"].astype(np.float32)
        gray = x.mean(-1, keepdims=True)
        x = gray + rng.uniform(1.0, most) * (x - gray)
        return {**example, "image": np.clip(np.rint(x), 0, 255).astype(np.uint8)}

    return run
