"""Steps of the loader for images with label maps, see `steps`."""

from collections.abc import Sequence

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import degradations, images
from gen_jax.data.degradations.base import from_bytes, to_bytes
from gen_jax.data.load.augmentation import Example, Transform

IGNORED = 255
"""Class of pixels in a label map that count neither in losses nor in metrics."""

_VALUES = 256  # of an 8-bit label map


def classes(label_values: Sequence[int], ignored_values: Sequence[int]) -> Transform:
    """Replaces the values of "mask" by class indices.

    Args:
      label_values: Value of each class in the label maps, in the order of the classes.
      ignored_values: Values of pixels that do not count, which become `IGNORED`.

    Raises:
      UserError: When called: an example has no mask, or its mask has another value.
    """
    table = np.full(_VALUES, -1, np.int16)
    table[list(ignored_values)] = IGNORED
    for index, value in enumerate(label_values):
        table[value] = index

    def run(example: Example, rng: np.random.Generator) -> Example:
        if "mask" not in example:
            raise UserError(
                f"{example['key']}: the record has no mask, which this stage learns from; prepare "
                "images with masks (docs/heads.md)"
            )
        mask = table[example["mask"]]
        if (mask < 0).any():
            value = int(example["mask"][mask < 0][0])
            raise UserError(
                f"{example['key']}: its mask has the value {value}; expected the values of classes "
                f"{', '.join(map(str, label_values))}"
                + (f", or {', '.join(map(str, ignored_values))} (ignored)" * bool(ignored_values))
                + "; change label_values or ignored_values of the transform"
            )
        return {**example, "mask": mask.astype(np.uint8)}

    return run


def crop_with_mask(size: int, scale: tuple[float | int, float | int], train: bool) -> Transform:
    """Crops a square of the image and its mask and resizes both, the mask without mixing classes.

    Args:
      size: Side of the result in pixels.
      scale: Range of the square's side as a fraction of the image's short side.
      train: Whether the square is drawn at random; otherwise it is the largest centered one.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        image, mask = example["image"], example["mask"]
        height, width = image.shape[:2]
        side, short = min(height, width), min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        if train:
            side = max(1, round(short * rng.uniform(*scale)))
            top = int(rng.integers(height - side + 1))
            left = int(rng.integers(width - side + 1))
        part = slice(top, top + side), slice(left, left + side)
        small = images.resize(image[part], size)
        return {**example, "image": small, "mask": images.resize_mask(mask[part], size, size)}

    return run


def flip_with_mask(probability: float = 0.5) -> Transform:
    """Mirrors the image and its mask."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= probability:
            return example
        return {**example, "image": example["image"][:, ::-1], "mask": example["mask"][:, ::-1]}

    return run


def damage(
    degradation: degradations.Degradation, probability: float | int, *keys: str
) -> Transform:
    """Replaces images by degraded ones with a probability; masks stay those of clean images."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        changed = {}
        for key in keys:
            if rng.random() < probability:
                clean = from_bytes(np.ascontiguousarray(example[key]))
                changed[key] = to_bytes(degradation(clean, rng)[0])
        return {**example, **changed}

    return run
