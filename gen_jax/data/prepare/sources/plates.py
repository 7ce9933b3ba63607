"""The `plates` source: number plates drawn from the front, whose text is known."""

import dataclasses
import hashlib
import json

import numpy as np

from gen_jax.data.prepare.sources import plate_draw
from gen_jax.data.prepare.sources.base import TEST, TRAIN, VAL, Description, RawImage
from gen_jax.data.text import plate_characters

_VERSION = 1  # raise it when the same index gives another image
_SPLITS = {8: VAL, 9: TEST}  # of ten plates in a row


class PlatesSource:
    """`num` plates, a tenth each in "val" and, in a typeface of its own, "test".

    A plate depends on (seed, index) alone. The record's attributes hold "text" (without
    separators), "country", "font", and "drawn": True.
    """

    name = "plates"
    embedded = True
    default_format = "png"

    def __init__(self, num: int = 10000, seed: int = 0, size: int = 40):
        """Describes the source.

        Args:
          num: Number of plates in all splits together.
          seed: Seed of the plates.
          size: Height of the images in pixels.
        """
        self._num, self._seed, self._size = num, seed, size

    def __len__(self) -> int:
        return self._num

    def identity(self) -> dict:
        world = {"num": self._num, "seed": self._seed, "size": self._size}
        return {**world, "version": _VERSION}

    def label_names(self) -> list[str]:
        return list(plate_draw.COUNTRIES)

    def _plate(self, index: int) -> tuple[str, plate_draw.Plate]:
        split = _SPLITS.get(index % 10, TRAIN)
        rng = np.random.default_rng((self._seed, 31, index))
        font = plate_draw.HELD_OUT_FONT if split == TEST else ""
        return split, plate_draw.random_plate(rng, font)

    def describe(self, index: int) -> Description:
        split, plate = self._plate(index)
        text = json.dumps([index, dataclasses.asdict(plate), self._size], sort_keys=True)
        return Description(f"plates/{index:07d}", hashlib.sha256(text.encode()).hexdigest(), split)

    def read(self, index: int) -> RawImage:
        _, plate = self._plate(index)
        text = plate_characters.normalized(plate.text)
        return RawImage(
            key=f"plates/{index:07d}",
            pixels=plate_draw.draw(plate, self._size),
            captions=(f"a number plate that reads {text}",),
            label=list(plate_draw.COUNTRIES).index(plate.country),
            label_name=plate.country,
            attributes={"text": text, "font": plate.font, "drawn": True},
        )
