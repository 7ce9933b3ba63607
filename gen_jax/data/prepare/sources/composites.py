"""The `composites` source: pictograms over photographs, with the pixels that they cover as mask.

Pictograms are those of Fluent Emoji Flat (MIT), photographs those in scikit-image's wheel. The
splits "val" and "test" show pictograms and photographs that "train" does not.
"""

import hashlib
import json

import numpy as np

from gen_jax.data import composites
from gen_jax.data.prepare.sources import photos, pictogram_draw
from gen_jax.data.prepare.sources.base import TEST, TRAIN, VAL, Description, RawImage
from gen_jax.data.prepare.sources.photo_list import PHOTOS
from gen_jax.data.prepare.sources.pictogram_scene import COLORS, SUBJECTS

_VERSION = 1  # raise it when the same index gives another image
_SPLITS = {8: VAL, 9: TEST}  # of ten images in a row
# Of pictograms and photographs: every sixth is of "val", the next one of "test".
_HELD_OUT = {4: VAL, 5: TEST}


class CompositesSource:
    """`num` images with one or two pictograms each, a tenth each in the splits "val" and "test".

    An image depends on (seed, index, size) alone.
    """

    name = "composites"
    embedded = True
    default_format = "png"

    def __init__(self, num: int = 6000, seed: int = 0, size: int = 80):
        """Describes the source.

        Args:
          num: Number of images in all splits together.
          seed: Seed of the composites.
          size: Side of the images in pixels.
        """
        pictogram_draw.check_names()
        self._num, self._seed, self._size = num, seed, size

    def __len__(self) -> int:
        return self._num

    def identity(self) -> dict:
        atlas = hashlib.sha256(pictogram_draw.ATLAS.read_bytes()).hexdigest()
        world = {"num": self._num, "seed": self._seed, "size": self._size, "atlas": atlas}
        return {**world, "version": _VERSION}

    def label_names(self) -> list[str]:
        return []

    def _drawn(self, index: int) -> tuple[str, dict, np.random.Generator]:
        rng = np.random.default_rng((self._seed, 29, index))
        split = _SPLITS.get(index % 10, TRAIN)
        subjects, files = list(SUBJECTS), [photo.file for photo in PHOTOS]
        count = 1 + int(rng.random() < 0.4)
        shown = []
        for _ in range(count):
            color = None if rng.random() < 0.4 else list(COLORS)[rng.integers(len(COLORS))]
            shown.append([_of(subjects, split, rng), color])
        return split, {"photo": _of(files, split, rng), "pictograms": shown}, rng

    def describe(self, index: int) -> Description:
        split, drawn, _ = self._drawn(index)
        text = json.dumps([self._seed, index, self._size, drawn])
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return Description(f"composites/{index:07d}", sha256, split)

    def read(self, index: int) -> RawImage:
        _, drawn, rng = self._drawn(index)
        cutouts = [pictogram_draw.pictogram(*pair) for pair in drawn["pictograms"]]
        photograph = photos.load(drawn["photo"])
        image, covered = composites.composite(photograph, cutouts, self._size, rng)
        return RawImage(
            key=f"composites/{index:07d}",
            pixels=image,
            attributes=drawn,
            mask=covered.astype(np.uint8) * 255,
        )


def _of(items: list[str], split: str, rng: np.random.Generator) -> str:
    """Draws one of the items that belong to a split."""
    own = [item for i, item in enumerate(items) if _HELD_OUT.get(i % 6, TRAIN) == split]
    return own[rng.integers(len(own))]
