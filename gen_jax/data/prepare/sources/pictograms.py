"""The `pictograms` source: pictograms in many colors, with captions that say so.

The pictograms are those of Fluent Emoji Flat (MIT, see gen_jax/data/pictograms). All attributes of
a scene are known, so whether a sample shows what its prompt states can be measured. Some pairs of
subject and color occur in the split "heldout" only; "val" and "test" hold unseen scenes of pairs
that training shows.
"""

import hashlib
import json

import numpy as np

from gen_jax.data.prepare.sources import pictogram_draw, pictogram_scene
from gen_jax.data.prepare.sources.base import TEST, VAL, Description, RawImage
from gen_jax.data.prepare.sources.pictogram_scene import HELDOUT, SUBJECTS, random_scene
from gen_jax.data.prepare.sources.pictogram_text import captions

HELDOUT_SPLIT = "heldout"
# Of 20 scenes in a row one goes to each of these.
_SPLITS = {17: VAL, 18: TEST, 19: HELDOUT_SPLIT}
_CAPTIONS = 3


class PictogramsSource:
    """`num` scenes, of 20 in a row one each in the splits "val", "test" and "heldout".

    The scene of an index depends on (seed, index) alone: a larger `num` adds to the data set
    without changing what is there.
    """

    name = "pictograms"
    embedded = True
    default_format = "png"

    def __init__(self, num: int = 20000, seed: int = 0, size: int = 64):
        """Describes the source.

        Args:
          num: Number of scenes in all splits together.
          seed: Seed of the scenes and captions.
          size: Side of the images in pixels.
        """
        pictogram_draw.check_names()
        self._num, self._seed, self._size = num, seed, size

    def __len__(self) -> int:
        return self._num

    def identity(self) -> dict:
        atlas = hashlib.sha256(pictogram_draw.ATLAS.read_bytes()).hexdigest()
        world = {"num": self._num, "seed": self._seed, "size": self._size, "atlas": atlas}
        return {**world, "version": pictogram_scene.WORLD_VERSION}

    def label_names(self) -> list[str]:
        return list(SUBJECTS)

    def _scene(self, index: int) -> tuple[dict, str | None, np.random.Generator]:
        rng = np.random.default_rng((self._seed, 19, index))
        split = _SPLITS.get(index % 20, "train")
        return random_scene(rng, heldout=split == HELDOUT_SPLIT), split, rng

    def describe(self, index: int) -> Description:
        scene, split, _ = self._scene(index)
        text = json.dumps(scene, sort_keys=True)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return Description(f"pictograms/{index:07d}", sha256, split)

    def read(self, index: int) -> RawImage:
        scene, _, rng = self._scene(index)
        return RawImage(
            key=f"pictograms/{index:07d}",
            pixels=pictogram_draw.draw(scene, self._size),
            captions=tuple(captions(scene, rng, _CAPTIONS)),
            label=list(SUBJECTS).index(scene["subject"]),
            label_name=scene["subject"],
            attributes=scene,
        )


__all__ = ["HELDOUT", "HELDOUT_SPLIT", "SUBJECTS", "PictogramsSource"]
