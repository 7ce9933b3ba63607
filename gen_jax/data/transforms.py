"""Small steps from a record to what a model reads; each maps (example, rng) to an example.

An example is a dict with "image" (RGB uint8 [h, w, 3]), "captions", "label",
"label_name", "attributes" and "key". Steps return a new dict and never write into
arrays, because decoded images may be shared by the loader's cache. Images stay
uint8: the device turns them into [-1, 1].
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import images, schema
from gen_jax.data.tokenizer import Tokenizer

Example = dict[str, Any]
Transform = Callable[[Example, np.random.Generator], Example]

# Words that a mirror image would make a lie of.
_SIDES = re.compile(r"\b(left|right|leftmost|rightmost|clockwise)\b", re.IGNORECASE)


def decode(data: bytes) -> Example:
    """A record's bytes to an example; what every pipeline begins with.

    A record of features has no image, and its arrays stand under their names.

    Raises:
      RecordError: the bytes are no record of this schema version.
      ImageError: its image cannot be decoded.
    """
    record = schema.unpack(data)
    image = {}
    if record.image or not record.arrays:
        image["image"] = images.decode_fast(record.image)
    return {
        **image,
        **record.arrays,
        "captions": record.captions,
        "label": record.label,
        "label_name": record.label_name,
        "attributes": record.attributes,
        "key": record.key,
    }


def compose(*steps: Transform) -> Transform:
    """All steps, one after the other, with one generator."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        for step in steps:
            example = step(example, rng)
        return example

    return run


def random_resized_crop(size: int, scale: tuple[float, float] = (0.6, 1.0)) -> Transform:
    """A random square, resized to `size` x `size` with antialiasing.

    Args:
      size: pixels.
      scale: range of the square's side as a share of the short side.
    """
    if not 0.0 < scale[0] <= scale[1] <= 1.0:
        raise UserError(f"crop scale {scale}: expected 0 < low <= high <= 1")

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * rng.uniform(*scale)))
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        crop = image[top : top + side, left : left + side]
        return {**example, "image": images.resize(crop, size)}

    return run


def center_crop(size: int) -> Transform:
    """The largest square in the middle, resized to `size` x `size` with antialiasing."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        crop = image[top : top + side, left : left + side]
        return {**example, "image": images.resize(crop, size)}

    return run


def names_a_side(captions: Sequence[str]) -> bool:
    """Whether any caption would be wrong of the mirror image."""
    return any(_SIDES.search(text) for text in captions)


def horizontal_flip(probability: float = 0.5) -> Transform:
    """Mirrors images, except where a caption names a side or "no_flip" is among the attributes."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        flip = rng.random() < probability
        held = example["attributes"].get("no_flip") or names_a_side(example["captions"])
        if not flip or held:
            return example
        return {**example, "image": example["image"][:, ::-1]}

    return run


def pick_caption(train: bool = True) -> Transform:
    """Sets "caption": a random one in training, the first one otherwise, "" where there is none."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        captions = example["captions"]
        if not captions:
            return {**example, "caption": ""}
        chosen = int(rng.integers(len(captions))) if train else 0
        return {**example, "caption": captions[chosen]}

    return run


def tokenize(tokenizer: Tokenizer, max_length: int) -> Transform:
    """Sets "tokens" (int32 [max_length]) and "token_mask" (bool) from "caption"."""

    @functools.lru_cache(maxsize=1 << 15)  # small data sets repeat their captions all the time
    def encode(text: str) -> tuple[np.ndarray, np.ndarray]:
        found = tokenizer.encode([text], max_length)
        return found.ids[0], found.mask[0]

    def run(example: Example, rng: np.random.Generator) -> Example:
        ids, mask = encode(example["caption"])
        return {**example, "tokens": ids, "token_mask": mask}

    return run


def select(*keys: str) -> Transform:
    """Keeps these keys only."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        return {key: example[key] for key in keys}

    return run


def standard(
    size: int,
    *,
    train: bool,
    tokenizer: Tokenizer | None = None,
    max_length: int = 32,
    scale: tuple[float, float] = (0.6, 1.0),
    flip: bool = True,
) -> Transform:
    """What most recipes want.

    Args:
      size: side of the images in pixels.
      train: random crop, flip and caption; otherwise the middle, unflipped, and the first caption.
      tokenizer: adds "tokens" and "token_mask" where given.
      max_length: of the tokens.
      scale: see `random_resized_crop`; (1, 1) for data without borders to spare.
      flip: whether to mirror at all in training.

    Returns:
      a transform to "image" (uint8 [size, size, 3]), "label" and the tokens.
    """
    steps = [random_resized_crop(size, scale) if train else center_crop(size)]
    if train and flip:
        steps.append(horizontal_flip())
    keys = ["image", "label"]
    if tokenizer is not None:
        steps += [pick_caption(train), tokenize(tokenizer, max_length)]
        keys += ["tokens", "token_mask"]
    return compose(*steps, select(*keys))
