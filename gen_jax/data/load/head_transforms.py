"""Transforms of the stage of domain heads: images with what a head is to read in them."""

import dataclasses
from typing import Any, ClassVar

from gen_jax.common import ranges
from gen_jax.common.errors import UserError
from gen_jax.data import composites, degradations
from gen_jax.data.load import augmentation, change_steps, landmark_steps, mask_steps, plate_steps
from gen_jax.data.load.named_transform import WHERE, NamedTransform


@dataclasses.dataclass(frozen=True)
class LabeledCrops(NamedTransform):
    """Random resized crops of images and their label maps, the centered square in evaluation.

    "mask" is uint8 [size, size], a class index per pixel, 255 where it does not count.

    Attributes:
      label_values: Value of each class in the label maps, in the order of the classes; (0, 255)
        are black and white masks.
      ignored_values: Values of pixels that do not count.
      crop_scale: Range of a training crop's side as a fraction of the image's short side.
      flip: Whether training crops are mirrored with probability 1/2.
      color_jitter: Strength of the random changes of brightness, contrast and saturation in
        training, from 0 (none) to below 1.
      degradation: Preset of `data.degradations` by name, or `name` of a degradation and its
        fields, that training images go through; "" for none.
      degradation_prob: Probability that a training image is degraded.
    """

    label_values: tuple[int, ...] = (0, 255)
    ignored_values: tuple[int, ...] = ()
    crop_scale: tuple[float, float] = (0.7, 1.0)
    flip: bool = True
    color_jitter: float | int = 0.2
    degradation: Any = ""
    degradation_prob: float | int = 0.3

    name = "labeled_crops"
    has_text = False
    _ranges: ClassVar = {
        "label_values": ranges.Range(0, 255),
        "ignored_values": ranges.Range(0, 255),
        "crop_scale": ranges.Range(0, 1, open_low=True),
        "color_jitter": ranges.BELOW_1,
        "degradation_prob": ranges.SHARE,
    }

    def __post_init__(self):
        super().__post_init__()
        values = (*self.label_values, *self.ignored_values)
        if len(self.label_values) < 2 or len(set(values)) < len(values):
            raise UserError(
                f"{WHERE}: label_values={self.label_values} and ignored_values="
                f"{self.ignored_values}: expected two classes or more, and each value once"
            )
        if len(self.crop_scale) != 2 or self.crop_scale[0] > self.crop_scale[1]:
            raise UserError(
                f"{WHERE}.crop_scale={self.crop_scale}: expected two fractions of the short side, "
                "the smaller one first"
            )
        built_degradation(self.degradation)  # for its errors

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("mask", *super().keys(has_tokens, features))

    def _image_steps(self, size, train, features):
        chain = [
            mask_steps.classes(self.label_values, self.ignored_values),
            mask_steps.crop_with_mask(size, self.crop_scale, train),
        ]
        if not train:
            return chain
        if self.flip:
            chain.append(mask_steps.flip_with_mask())
        if self.color_jitter:
            chain.append(augmentation.jitter_color(self.color_jitter))
        if self.degradation:
            drawn = built_degradation(self.degradation)
            chain.append(mask_steps.damage(drawn, self.degradation_prob, "image"))
        return chain


@dataclasses.dataclass(frozen=True)
class Plates(NamedTransform):
    """Number plates as a camera sees them, with their text.

    "image" is uint8 [size / 4, size, 3], "text" int32 [10] (`text.plate_characters`), "height"
    int32, the height in pixels at which the plate was seen. Plates that were drawn (attribute
    "drawn") are seen at an angle and degraded, in evaluation too, always in the same way there;
    others are resized.

    Attributes:
      heights: Range of the height in pixels at which a drawn plate is seen.
      angle: Largest shift of a corner, as a share of the plate's height.
      degradation: Preset of `data.degradations` by name, or `name` of a degradation and its
        fields, that drawn plates go through after that; "" for none.
      degradation_prob: Probability that a drawn plate is degraded.
    """

    heights: tuple[float, float] = (14.0, 32.0)
    angle: float | int = 0.15
    degradation: Any = "camera"
    degradation_prob: float | int = 0.7

    name = "plates"
    has_text = False
    _ranges: ClassVar = {
        "heights": ranges.Range(4, 1024),
        "angle": ranges.BELOW_1,
        "degradation_prob": ranges.SHARE,
    }

    def __post_init__(self):
        super().__post_init__()
        if len(self.heights) != 2 or self.heights[0] > self.heights[1]:
            raise UserError(
                f"{WHERE}.heights={self.heights}: expected two heights in pixels, the smaller one "
                "first"
            )
        built_degradation(self.degradation)  # for its errors

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("text", "height", *super().keys(has_tokens, features))

    def _image_steps(self, size, train, features):
        drawn = built_degradation(self.degradation)
        prob = self.degradation_prob if drawn is not None else 0.0
        return [plate_steps.text, plate_steps.seen(size, self.heights, self.angle, drawn, prob)]


@dataclasses.dataclass(frozen=True)
class Landmarks(NamedTransform):
    """Faces at random places, sizes and rotations, with their landmarks.

    "image" is uint8 [size, size, 3], "points" float32 [points, 2], x and y in fractions of the
    sides. Held-out faces are moved in the same way, always alike: of aligned faces, a constant
    would be nearly right.

    Attributes:
      points: Number of points in the attribute "landmarks" of a record.
      mirrored: Pairs of points that trade places in a mirror image; mirroring is left out without
        them.
      turn: Largest rotation in degrees to either side.
      scale: Range of the factor by which faces are enlarged.
      shift: Largest shift along each axis, as a share of the side.
      color_jitter: Strength of the random changes of brightness, contrast and saturation in
        training, from 0 (none) to below 1.
      degradation: Preset of `data.degradations` by name, or `name` of a degradation and its
        fields, that training images go through; "" for none.
      degradation_prob: Probability that a training image is degraded.
    """

    points: int = 5
    mirrored: tuple[tuple[int, int], ...] = ((0, 1), (3, 4))
    turn: float | int = 15.0
    scale: tuple[float, float] = (0.8, 1.15)
    shift: float | int = 0.08
    color_jitter: float | int = 0.3
    degradation: Any = ""
    degradation_prob: float | int = 0.3

    name = "landmarks"
    has_text = False
    _ranges: ClassVar = {
        "points": ranges.AT_LEAST_1,
        "turn": ranges.Range(0, 180),
        "scale": ranges.Range(0.1, 10),
        "shift": ranges.Range(0, 0.5),
        "color_jitter": ranges.BELOW_1,
        "degradation_prob": ranges.SHARE,
    }

    def __post_init__(self):
        super().__post_init__()
        indices = [i for pair in self.mirrored for i in pair]
        if len(set(indices)) < len(indices) or any(i not in range(self.points) for i in indices):
            raise UserError(
                f"{WHERE}.mirrored={self.mirrored}: expected pairs of indices below points="
                f"{self.points}, each index once"
            )
        built_degradation(self.degradation)  # for its errors

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("points", *super().keys(has_tokens, features))

    def _image_steps(self, size, train, features):
        chain = [
            landmark_steps.points(self.points),
            landmark_steps.pose(size, self.turn, self.scale, self.shift),
        ]
        if not train:
            return chain
        if self.mirrored:
            chain.append(landmark_steps.mirror(self.mirrored))
        if self.color_jitter:
            chain.append(augmentation.jitter_color(self.color_jitter))
        if self.degradation:
            drawn = built_degradation(self.degradation)
            chain.append(mask_steps.damage(drawn, self.degradation_prob, "image"))
        return chain


@dataclasses.dataclass(frozen=True)
class ChangedPairs(NamedTransform):
    """Pairs of images of which cut-outs are inserted and erased, made of photographs.

    "before" and "after" are uint8 [size, size, 3], "mask" uint8 [size, size], 1 where something is
    in one of them alone. Held-out pairs show cut-outs that training does not, always alike.

    Attributes:
      objects: Cut-outs: "pictograms", a folder, or FILE.zip[:PREFIX]; a tenth is held out.
      side: Range of a cut-out's longer side as a share of the image's.
      unchanged: Probability that nothing changes.
      shift: Largest misalignment along each axis in pixels.
      turn: Largest misalignment in degrees to either side.
      season: Strength of the change of colors, brightness and contrast, from 0 to below 1.
      noise: Largest standard deviation of the noise in 8-bit units.
    """

    objects: str = change_steps.PICTOGRAMS
    side: tuple[float, float] = (0.15, 0.5)
    unchanged: float | int = 0.2
    shift: float | int = 1.5
    turn: float | int = 1.0
    season: float | int = 0.25
    noise: float | int = 8.0

    name = "changed_pairs"
    has_text = False
    _ranges: ClassVar = {
        "side": ranges.Range(0, 1, open_low=True),
        "unchanged": ranges.SHARE,
        "shift": ranges.NOT_NEGATIVE,
        "turn": ranges.Range(0, 180),
        "season": ranges.BELOW_1,
        "noise": ranges.NOT_NEGATIVE,
    }

    @classmethod
    def keys(cls, has_tokens, features=()):
        return ("before", "after", "mask", *super().keys(has_tokens, features))

    def _image_steps(self, size, train, features):
        objects = change_steps.cutouts(self.objects, held_out=not train)
        distractors = change_steps.Distractors(self.shift, self.turn, self.season, self.noise)
        poses = composites.Poses(side=self.side)
        chain = [change_steps.pair(size, objects, poses, distractors, self.unchanged)]
        return [*chain, change_steps.turn_pair] if train else chain


def built_degradation(config: Any) -> degradations.Degradation | None:
    """Returns the degradation of a transform's field, None for ""."""
    return degradations.build(config, f"{WHERE}.degradation") if config else None
