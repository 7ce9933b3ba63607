"""Small steps from a record to what a model reads; each maps (example, rng) to an example.

An example is a dict with "image" (RGB uint8 [h, w, 3]), "captions", "label",
"label_name", "attributes" and "key". Steps return a new dict and never write into
arrays, because decoded images may be shared by the loader's cache. Images stay
uint8: the device turns them into [-1, 1].
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import degradations, images, schema
from gen_jax.data.degradations.base import error, from_bytes
from gen_jax.data.degradations.curriculum import Curriculum
from gen_jax.data.degradations.instructed import Instructions
from gen_jax.data.load.augmentation import (
    Example,
    Transform,
    horizontal_flip,
    jitter_colour,
    mirrored_features,
    symmetric,
    turn_and_flip,
)
from gen_jax.data.text import art_words, face_words
from gen_jax.data.text.instructions import KINDS
from gen_jax.data.text.tokenizer import Tokenizer

NO_CURRICULUM = Curriculum()


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


def native_crop(size: int, *, train: bool) -> Transform:
    """A square of `size` pixels as they are, random in training, else the middle; a side that is
    too short is continued by its mirror image.
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
    """One channel: BT.601 luma, rounded; pictures that were gray stay as they were."""
    gray = cv2.cvtColor(np.ascontiguousarray(example["image"]), cv2.COLOR_RGB2GRAY)
    return {**example, "image": gray[..., None]}


def monochrome(share: float) -> Transform:
    """Now and then one channel, as `to_gray`; `in_colour` undoes the shape."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        return to_gray(example, rng) if rng.random() < share else example

    return run


def in_colour(*keys: str) -> Transform:
    """Three equal channels where there is one."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        wide = {k: np.broadcast_to(example[k], (*example[k].shape[:2], 3)) for k in keys}
        return {**example, **wide}

    return run


def degrade(
    degradation: degradations.Degradation, curriculum: Curriculum = NO_CURRICULUM
) -> Transform:
    """Sets "degraded" (float32, the image's shape) and "degradation", what was drawn and how far
    it led, as `degradations.as_vector` writes it. The clean "image" stays.

    A curriculum goes by the example's "step".
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = np.ascontiguousarray(example["image"])
        clean = from_bytes(image)
        found, drawn = curriculum.pick(
            lambda rng: degradation(clean, rng),
            lambda made: error(image, made[0])["error"],
            example.get("step", 0),
            rng,
        )
        vector = degradations.as_vector(drawn | error(image, found))
        return {**example, "image": image, "degraded": found, "degradation": vector}

    return run


def instruct(how: Instructions, curriculum: Curriculum = NO_CURRICULUM) -> Transform:
    """As `degrade`, with "caption", what is asked for, and "kind", its index in
    `instructions.KINDS`; "image" becomes what the instruction leads to.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        clean = np.ascontiguousarray(example["image"])
        made = curriculum.pick(
            lambda rng: how(clean, rng),
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
    encode = _Encoding(tokenizer, max_length)

    def run(example: Example, rng: np.random.Generator) -> Example:
        ids, mask = encode(example["caption"])
        return {**example, "tokens": ids, "token_mask": mask}

    return run


class _Encoding:
    """A text's tokens and mask, remembered: small data sets repeat their captions all the time."""

    def __init__(self, tokenizer: Tokenizer, max_length: int):
        self._of = tokenizer, max_length
        self._remembered = functools.lru_cache(maxsize=1 << 15)(self._encode)

    def __reduce__(self):  # worker processes remember for themselves
        return _Encoding, self._of

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        return self._remembered(text)

    def _encode(self, text):
        tokenizer, max_length = self._of
        found = tokenizer.encode([text], max_length)
        return found.ids[0], found.mask[0]


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
    symmetries: bool = False,
    colour: float = 0.0,
    words: bool = False,
) -> Transform:
    """What most recipes want.

    Args:
      size: side of the images in pixels.
      train: random crop, flip and caption; otherwise the middle, unflipped, and the first caption.
      tokenizer: adds "tokens" and "token_mask" where given.
      max_length: of the tokens.
      scale: see `random_resized_crop`; (1, 1) for data without borders to spare.
      flip: whether to mirror at all in training.
      symmetries: turn by quarters, too.
      colour: strength of `jitter_colour`, 0 for none.
      words: write captions of what is measured of the picture, see `art_words.describe`.

    Returns:
      a transform to "image" (uint8 [size, size, 3]), "label" and the tokens.
    """
    steps = [random_resized_crop(size, scale) if train else center_crop(size)]
    if train and (flip or symmetries):
        steps.append(symmetric() if symmetries else horizontal_flip())
    if train and colour:
        steps.append(jitter_colour(colour))
    keys = ["image", "label"]
    if tokenizer is not None:
        captioned = art_words.describe(train) if words else pick_caption(train)
        steps += [captioned, tokenize(tokenizer, max_length)]
        keys += ["tokens", "token_mask"]
    return compose(*steps, select(*keys))


def featured(
    size: int,
    names: Sequence[str],
    *,
    train: bool,
    tokenizer: Tokenizer | None = None,
    max_length: int = 32,
    flip: bool = True,
    faces: bool = False,
) -> Transform:
    """What recipes want whose records hold features beside the image: never cropped, or the
    features would be another picture's.

    Args:
      size: side of the images in pixels.
      names: of the arrays.
      train: flip and a random caption; otherwise neither.
      tokenizer: adds "tokens" and "token_mask" where given.
      max_length: of the tokens.
      flip: whether to mirror at all in training.
      faces: write captions of the facts in the attributes, see `face_words.describe`.

    Returns:
      a transform to "image" (uint8 [size, size, 3]), the arrays, "label" and the tokens.
    """
    steps = [center_crop(size)]
    if train and flip:
        steps.append(mirrored_features(names))
    keys = ["image", "label", *names]
    if tokenizer is not None:
        words = face_words.describe(train) if faces else pick_caption(train)
        steps += [words, tokenize(tokenizer, max_length)]
        keys += ["tokens", "token_mask", *(("facts", "asked") if faces else ())]
    return compose(*steps, select(*keys))


def restoration(
    size: int,
    degradation: degradations.Degradation,
    *,
    train: bool,
    gray: bool = False,
    instructions: float = 0.0,
    tokenizer: Tokenizer | None = None,
    max_length: int = 32,
    curriculum_steps: int = 0,
) -> Transform:
    """What recipes of restoration want.

    Args:
      size: side of the crops in pixels; they are never resized.
      degradation: drawn for each crop.
      train: random crop, turn and flip; otherwise the middle as it is.
      gray: one channel instead of three. Else a tenth of the training crops are gray pictures with
        gray faults, in three equal channels.
      instructions: share of crops that have contradictory faults, of which a text asks some to be
        removed.
      tokenizer: adds "tokens" and "token_mask" of the text, where given.
      max_length: of the tokens.
      curriculum_steps: of training, over which the allowed severity rises; see `Curriculum`.

    Returns:
      a transform to "image" (uint8 [size, size, c]), "degraded" (float32, the same shape),
      "degradation" (float32 [p]), "label" and, with a tokenizer, the tokens and "kind".
    """
    curriculum = Curriculum(curriculum_steps) if train else NO_CURRICULUM
    steps = [native_crop(size, train=train)]
    steps += [turn_and_flip()] * train + [to_gray if gray else monochrome(0.1 * train)]
    keys = ["image", "degraded", "degradation", "label"]
    if tokenizer is None:
        steps.append(degrade(degradation, curriculum))
    else:
        steps += [instruct(Instructions(instructions, degradation), curriculum)]
        steps += [tokenize(tokenizer, max_length)]
        keys += ["tokens", "token_mask", "kind"]
    steps += [in_colour("image", "degraded")] * (not gray)
    return compose(*steps, select(*keys))
