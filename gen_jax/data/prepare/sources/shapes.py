"""The `shapes` source: a procedural world whose captions are true by construction.

Because every attribute of a picture is known, "did the model draw what the text
says" is a measurement and no opinion. Some (shape, colour) pairs occur in the
split "heldout" only: they tell recombination from recall.
"""

import hashlib
import json

import numpy as np

from gen_jax.data.prepare.sources import shape_scene
from gen_jax.data.prepare.sources.base import Description, RawImage
from gen_jax.data.prepare.sources.shape_draw import draw
from gen_jax.data.prepare.sources.shape_read import read_scene, score
from gen_jax.data.prepare.sources.shape_scene import (
    BACKGROUNDS,
    COLORS,
    HELDOUT,
    SHAPES,
    TRAIN_PAIRS,
    random_scene,
)
from gen_jax.data.prepare.sources.shape_text import Prompt, caption, captions, describe, prompts

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "HELDOUT",
    "SHAPES",
    "TRAIN_PAIRS",
    "Prompt",
    "ShapesSource",
    "caption",
    "captions",
    "describe",
    "draw",
    "prompts",
    "random_scene",
    "read_scene",
    "score",
]

HELDOUT_SPLIT = "heldout"
_HELDOUT_SHARE = 20  # one scene in so many
_CAPTIONS = 5


class ShapesSource:
    """`num` scenes, one in 20 of them of held-out pairs.

    The scene of an index depends on (seed, index) alone: a larger `num` adds to
    the data set without changing what is there.
    """

    name = "shapes"
    embedded = True
    default_format = "png"

    def __init__(self, num: int = 20000, seed: int = 0, size: int = 64):
        """Describes the source.

        Args:
          num: how many scenes in all splits together.
          seed: of everything.
          size: side of the pictures in pixels.
        """
        self._num, self._seed, self._size = num, seed, size

    def __len__(self) -> int:
        return self._num

    def identity(self) -> dict:
        world = {"num": self._num, "seed": self._seed, "size": self._size}
        return {**world, "version": shape_scene.WORLD_VERSION}

    def label_names(self) -> list[str]:
        return shape_scene.pair_names()

    def _scene(self, index: int) -> tuple[dict, bool, np.random.Generator]:
        rng = np.random.default_rng((self._seed, 11, index))
        heldout = index % _HELDOUT_SHARE == _HELDOUT_SHARE - 1
        return random_scene(rng, heldout=heldout), heldout, rng

    def describe(self, index: int) -> Description:
        scene, heldout, _ = self._scene(index)
        text = json.dumps(scene, sort_keys=True)
        return Description(
            key=f"shapes/{index:07d}",
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            split=HELDOUT_SPLIT if heldout else None,
        )

    def read(self, index: int) -> RawImage:
        scene, _, rng = self._scene(index)
        first = scene["objects"][0]
        label = shape_scene.pair_index(first["shape"], first["color"])
        return RawImage(
            key=f"shapes/{index:07d}",
            pixels=draw(scene, self._size),
            captions=tuple(captions(scene, rng, _CAPTIONS)),
            label=label,
            label_name=self.label_names()[label],
            attributes=scene,
        )
