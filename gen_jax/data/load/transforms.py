"""Transforms by name: what `config.data.transform` may hold, from a record to a task's inputs.

Each transform is a frozen dataclass in `TRANSFORMS`. It composes the steps of `steps`, and declares
what the data layer and the trainer need to know about it. A new one is a class and its entry there.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

from gen_jax.common import ranges
from gen_jax.common.errors import UserError
from gen_jax.data import degradations
from gen_jax.data.degradations.curriculum import Curriculum
from gen_jax.data.degradations.instructed import Instructions
from gen_jax.data.load import augmentation, steps
from gen_jax.data.load.augmentation import Transform
from gen_jax.data.load.head_transforms import ChangedPairs, LabeledCrops, Landmarks, Plates
from gen_jax.data.load.named_transform import WHERE, NamedTransform
from gen_jax.data.text import art_words, face_words, instructions

_GRAY_PROB = 0.1
_CHECKED = 500  # records that are searched for attributes before a run begins


@dataclasses.dataclass(frozen=True)
class Crops(NamedTransform):
    """Random resized crops with the captions of the records, the centered square in evaluation.

    Attributes:
      crop_scale: Range of a training crop's side as a fraction of the image's short side; (1, 1)
        for images without a margin to spare.
      flip: Whether training crops are mirrored with probability 1/2, except if a caption names a
        side.
      symmetries: Whether training crops are rotated by multiples of 90 degrees and mirrored, for
        images without a right way up.
      color_jitter: Strength of the random changes of brightness, contrast and saturation in
        training, from 0 (none) to below 1.
    """

    crop_scale: tuple[float, float] = (0.8, 1.0)
    flip: bool = True
    symmetries: bool = False
    color_jitter: float | int = 0.0

    name = "crops"
    reads_captions = True
    _ranges: ClassVar = {
        "crop_scale": ranges.Range(0, 1, open_low=True),
        "color_jitter": ranges.BELOW_1,
    }

    def __post_init__(self):
        super().__post_init__()
        if len(self.crop_scale) != 2 or self.crop_scale[0] > self.crop_scale[1]:
            raise UserError(
                f"{WHERE}.crop_scale={self.crop_scale}: expected two fractions of the short side, "
                "the smaller one first"
            )

    def _image_steps(self, size, train, features):
        if not train:
            return [steps.center_crop(size)]
        chain = [steps.random_resized_crop(size, self.crop_scale)]
        if self.symmetries:
            chain.append(augmentation.symmetric())
        elif self.flip:
            chain.append(augmentation.horizontal_flip())
        if self.color_jitter:
            chain.append(augmentation.jitter_color(self.color_jitter))
        return chain


@dataclasses.dataclass(frozen=True)
class ArtCaptions(Crops):
    """`Crops` with captions of adjectives that are measured in each crop (`text.art_words`)."""

    name = "art_captions"
    reads_captions = False

    def vocabulary(self, captions):
        # Half of the training captions are the records' own, if they have any.
        return [*art_words.vocabulary(), *captions]

    def _caption_steps(self, train):
        return (art_words.describe(train),)


@dataclasses.dataclass(frozen=True)
class Letterbox(NamedTransform):
    """Whole images, padded to a square with white, with the captions of the records.

    "image" is uint8 [size, size, 1], or 3 channels, and "mask" bool [size, size, 1], False at the
    padding.

    Attributes:
      gray: Whether images have one channel.
      flip: Whether training images are mirrored with probability 1/2, except if a caption names a
        side.
    """

    gray: bool = True
    flip: bool = False

    name = "letterbox"
    reads_captions = True

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("mask", *super().keys(has_tokens, features))

    def _image_steps(self, size, train, features):
        chain = [augmentation.horizontal_flip()] if train and self.flip else []
        chain.append(steps.letterbox(size))
        return [*chain, steps.to_gray] if self.gray else chain


@dataclasses.dataclass(frozen=True)
class Features(NamedTransform):
    """Whole images with precomputed features and the captions of the records.

    It never crops, because the features describe the whole image.

    Attributes:
      flip: Whether training images and their features are mirrored with probability 1/2, except if
        a caption names a side.
    """

    flip: bool = True

    name = "features"
    reads_captions = True
    takes_features = True

    def _image_steps(self, size, train, features):
        chain = [steps.center_crop(size)]
        if train and self.flip:
            chain.append(augmentation.mirrored_features(features))
        return chain


@dataclasses.dataclass(frozen=True)
class FaceCaptions(Features):
    """`Features` with sentences that state attributes of a face (`text.face_words`).

    With tokens come "facts" and "asked" (int8 [a]): the attributes that the record has, and those
    that the sentence states.
    """

    name = "face_captions"
    reads_captions = False

    @classmethod
    def keys(cls, has_tokens, features=()):
        return (*super().keys(has_tokens, features), *(("facts", "asked") if has_tokens else ()))

    def vocabulary(self, captions):
        return face_words.vocabulary()

    def check_records(self, records):
        if any(face_words.facts_of(r.attributes) for r in itertools.islice(records, _CHECKED)):
            return ""
        expected = "; ".join(f"{k}: {', '.join(v)}" for k, v in face_words.ATTRIBUTES.items())
        return (
            f"none of its first {_CHECKED} records has an attribute that sentences could state "
            f"({expected}); write them into captions.jsonl and prepare the data again"
        )

    def _caption_steps(self, train):
        return (face_words.describe(train),)


@dataclasses.dataclass(frozen=True)
class Restoration(NamedTransform):
    """Degraded crops of the image's own pixels, never resized, with what was done to them.

    "degraded" is float32 of the image's shape, "degradation" float32 [p], see
    `degradations.as_vector`.

    Attributes:
      degradation: Preset of `data.degradations` by name, or `name` of a degradation and its fields.
      gray: Whether crops have one channel. Otherwise they have three, and a tenth of the training
        crops are gray images with gray degradations.
      curriculum_steps: Training steps over which the severity allowed rises, 0 for no limit.
      saturation_prob: Probability that a training crop is made up to three times as saturated.
    """

    degradation: Any = "photograph"
    gray: bool = False
    curriculum_steps: int = 0
    saturation_prob: float | int = 0.0

    name = "restoration"
    has_text = False
    _ranges: ClassVar = {
        "curriculum_steps": ranges.NOT_NEGATIVE,
        "saturation_prob": ranges.SHARE,
    }

    def __post_init__(self):
        super().__post_init__()
        self._degradation()  # for its errors

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("degraded", "degradation", *super().keys(has_tokens, features))

    def _image_steps(self, size, train, features):
        chain = [steps.native_crop(size, train=train)]
        if train:
            chain.append(augmentation.turn_and_flip())
        if train and self.saturation_prob:
            chain.append(augmentation.saturate(self.saturation_prob))
        chain.append(steps.to_gray if self.gray else steps.random_gray(_GRAY_PROB * train))
        chain.append(self._degrade(Curriculum(self.curriculum_steps if train else 0)))
        if not self.gray:
            chain.append(steps.to_rgb("image", "degraded"))
        return chain

    def _degrade(self, curriculum: Curriculum) -> Transform:
        return steps.degrade(self._degradation(), curriculum)

    def _degradation(self) -> degradations.Degradation:
        return degradations.build(self.degradation, f"{WHERE}.degradation")


@dataclasses.dataclass(frozen=True)
class InstructedRestoration(Restoration):
    """`Restoration` by instructions, which change the target (`degradations.instructed`).

    "kind" is the instruction's index in `text.instructions.KINDS`.

    Attributes:
      contradiction_prob: Probability that a crop has contradictory degradations, of which an
        instruction asks to remove some. The others have `degradation` and are restored in full.
    """

    contradiction_prob: float | int = 0.35

    name = "instructed_restoration"
    has_text = True
    _ranges: ClassVar = {**Restoration._ranges, "contradiction_prob": ranges.SHARE}

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("kind", *super().keys(has_tokens, features))

    def vocabulary(self, captions):
        return instructions.vocabulary()

    def _degrade(self, curriculum):
        drawn = Instructions(self.contradiction_prob, self._degradation())
        return steps.instruct(drawn, curriculum)

    def _caption_steps(self, train):
        return ()  # the instruction is drawn with the degradation


TRANSFORMS: Mapping[str, type[NamedTransform]] = {
    cls.name: cls
    for cls in (
        *(Crops, ArtCaptions, Features, FaceCaptions, Letterbox),
        *(Restoration, InstructedRestoration),
        *(ChangedPairs, LabeledCrops, Landmarks, Plates),
    )
}
