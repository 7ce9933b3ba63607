"""Steps of the loader, each from (example, rng) to an example; `transforms` composes them.

An example is a dict with "image" (RGB uint8 [h, w, 3]), "captions", "label", "label_name",
"attributes" and "key", and "mask" (uint8 [h, w]) if its record has a label map. Steps return a new
dict and never write into arrays, because the loader's cache may share decoded images. Images stay
uint8: the device maps them to [-1, 1].
"""

import functools

import cv2
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import degradations, images, schema
from gen_jax.data.degradations.base import error, from_bytes
from gen_jax.data.degradations.curriculum import Curriculum
from gen_jax.data.degradations.instructed import Instructions
from gen_jax.data.load.augmentation import Example, Transform
from gen_jax.data.text.instructions import KINDS
from gen_jax.data.text.tokenizer import Tokenizer

NO_CURRICULUM = Curriculum()


def decode(data: bytes) -> Example:
    """Decodes a record's bytes into an example.

    A record of features may have no image. Its arrays keep their names as keys.

    Raises:
      RecordError: The bytes are not a record of this schema version.
      ImageError: The image cannot be decoded.
    """
    record = schema.unpack(data)
    image = {}
    if record.image or not record.arrays:
        image["image"] = images.decode_fast(record.image)
    if record.mask:
        image["mask"] = images.decode_mask(record.mask)
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
    """Applies steps in order, all with the same generator."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        for step in steps:
            example = step(example, rng)
        return example

    return run


def random_resized_crop(size: int, scale: tuple[float, float] = (0.6, 1.0)) -> Transform:
    """Crops a random square and resizes it with antialiasing.

    Args:
      size: Side of the result in pixels.
      scale: Range of the square's side as a fraction of the image's short side.
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
    """Crops the largest centered square and resizes it to `size` pixels with antialiasing."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        crop = image[top : top + side, left : left + side]
        return {**example, "image": images.resize(crop, size)}

    return run


def letterbox(size: int) -> Transform:
    """Resizes so that the long side has `size` pixels, and pads the short side with white.

    Sets "mask" (bool [size, size, 1]), which is False at the padding. White is the paper of prints
    and drawings.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        scale = size / max(image.shape[:2])
        height, width = (min(size, max(1, round(side * scale))) for side in image.shape[:2])
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=kind)
        top, left = (size - height) // 2, (size - width) // 2
        inside = (slice(top, top + height), slice(left, left + width))
        padded = np.full((size, size, small.shape[2]), 255, np.uint8)
        mask = np.zeros((size, size, 1), bool)
        padded[inside], mask[inside] = small, True
        return {**example, "image": padded, "mask": mask}

    return run


def native_crop(size: int, *, train: bool) -> Transform:
    """Crops `size` x `size` pixels without resizing, at random in training and else in the center.

    An image that is too small is padded with its mirror image.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        short = [max(0, size - side) for side in image.shape[:2]]
        if any(short):
            image = np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
        room = [side - size for side in image.shape[:2]]
        top, left = (int(rng.integers(r + 1)) if train else r // 2 for r in room)
        return {**example, "image": image[top : top + size, left : left + size]}

    return run


def to_gray(example: Example, rng: np.random.Generator) -> Example:
    """Converts to one channel, rounded BT.601 luma, which leaves gray images as they are."""
    gray = cv2.cvtColor(np.ascontiguousarray(example["image"]), cv2.COLOR_RGB2GRAY)
    return {**example, "image": gray[..., None]}


def random_gray(probability: float) -> Transform:
    """Applies `to_gray` with a probability; `to_rgb` restores three channels."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        return to_gray(example, rng) if rng.random() < probability else example

    return run


def to_rgb(*keys: str) -> Transform:
    """Repeats the channel of one-channel images three times."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        wide = {k: np.broadcast_to(example[k], (*example[k].shape[:2], 3)) for k in keys}
        return {**example, **wide}

    return run


def degrade(
    degradation: degradations.Degradation, curriculum: Curriculum = NO_CURRICULUM
) -> Transform:
    """Adds a degraded copy of the image.

    The step sets "degraded" (float32, the image's shape) and "degradation" (float32 [p], see
    `degradations.as_vector`): the drawn parameters and the root mean square error. "image" stays
    clean.

    Args:
      degradation: Degradation that is drawn for each example.
      curriculum: Limit on the severity by the example's "step"; none by default.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = np.ascontiguousarray(example["image"])
        clean = from_bytes(image)
        degraded, parameters = curriculum.pick(
            lambda rng: degradation(clean, rng),
            lambda made: error(image, made[0])["error"],
            example.get("step", 0),
            rng,
        )
        vector = degradations.as_vector(parameters | error(image, degraded))
        return {**example, "image": image, "degraded": degraded, "degradation": vector}

    return run


def instruct(instructions: Instructions, curriculum: Curriculum = NO_CURRICULUM) -> Transform:
    """Adds a degraded copy of the image and an instruction, see `degrade`.

    The step also sets "caption", the instruction, and "kind", its index in `instructions.KINDS`.
    "image" becomes the target of the instruction.

    Args:
      instructions: Draws the degradations and the instruction of each example.
      curriculum: Limit on the severity by the example's "step"; none by default.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        clean = np.ascontiguousarray(example["image"])
        made = curriculum.pick(
            lambda rng: instructions(clean, rng),
            lambda made: error(clean, made.degraded)["error"],
            example.get("step", 0),
            rng,
        )
        return {
            **example,
            "image": made.target,
            "degraded": made.degraded,
            "degradation": degradations.as_vector(made.drawn | error(clean, made.degraded)),
            "caption": made.prompt,
            "kind": KINDS.index(made.kind),
        }

    return run


def pick_caption(train: bool = True) -> Transform:
    """Sets "caption": a random caption in training, else the first one, "" if there are none."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        captions = example["captions"]
        if not captions:
            return {**example, "caption": ""}
        chosen = int(rng.integers(len(captions))) if train else 0
        return {**example, "caption": captions[chosen]}

    return run


def tokenize(tokenizer: Tokenizer, max_length: int) -> Transform:
    """Sets "tokens" (int32 [max_length]) and "token_mask" (bool) from "caption"."""
    encode = _Encoding(tokenizer, max_length)

    def run(example: Example, rng: np.random.Generator) -> Example:
        ids, mask = encode(example["caption"])
        return {**example, "tokens": ids, "token_mask": mask}

    return run


class _Encoding:
    """Encodes a text, with a cache, because small data sets repeat their captions often."""

    def __init__(self, tokenizer: Tokenizer, max_length: int):
        self._arguments = tokenizer, max_length
        self._cached = functools.lru_cache(maxsize=1 << 15)(self._encode)

    def __reduce__(self):  # each worker process has a cache of its own
        return _Encoding, self._arguments

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        return self._cached(text)

    def _encode(self, text):
        tokenizer, max_length = self._arguments
        encoded = tokenizer.encode([text], max_length)
        return encoded.ids[0], encoded.mask[0]


def select(*keys: str) -> Transform:
    """Keeps only these keys."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        return {key: example[key] for key in keys}

    return run
