"""The `photos` source: square crops of the real photographs in scikit-image's wheel.

Seventeen photographs with six captions each, so that every stage trains on real
images with no network and no download. Crops of one photograph overlap: the
held-out splits are unseen crops of seen photographs, fit for checking that
training works, not for claims about generalisation.
"""

import functools
import hashlib
import importlib.util
import json
import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.prepare.sources.base import Description, RawImage
from gen_jax.data.prepare.sources.photo_list import PHOTOS, Photo

_SMALLEST_CROP = 0.6  # of the short side


def folder() -> pathlib.Path:
    """Where the installed scikit-image keeps its images.

    Raises:
      UserError: scikit-image is not installed.
    """
    # The spec alone: importing skimage takes a second that we do not need.
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("photos: they come with scikit-image; run pip install scikit-image")
    return pathlib.Path(next(iter(spec.submodule_search_locations))) / "data"


@functools.lru_cache(maxsize=len(PHOTOS))
def load(file: str) -> UInt8[np.ndarray, "h w 3"]:
    """One whole photograph by its file name, RGB.

    Raises:
      UserError: this version of scikit-image does not ship it.
    """
    path = folder() / file
    if not path.is_file():
        raise UserError(
            f"photos: {path} is missing; run pip install --force-reinstall scikit-image"
        )
    pixels, _ = images.open_strict(path.read_bytes())
    pixels.setflags(write=False)
    return pixels


def crop_box(
    photo: Photo, width: int, height: int, size: int, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Draws a square that contains the photograph's subject.

    Args:
      photo: whose `keep` box must lie inside.
      width: of the photograph in pixels.
      height: of the photograph in pixels.
      size: the side it will be stored at; crops are no smaller where that is possible.
      rng: where the randomness comes from.

    Returns:
      x0, y0, side in pixels.
    """
    short = min(width, height)
    left, top, right, bottom = (
        photo.keep[0] * width,
        photo.keep[1] * height,
        photo.keep[2] * width,
        photo.keep[3] * height,
    )
    smallest = max(_SMALLEST_CROP * short, right - left, bottom - top, min(size, short))
    side = min(short, int(np.ceil(rng.uniform(smallest, short))))

    def start(low: float, high: float, limit: int) -> int:
        first = max(0, int(np.ceil(high)) - side)
        last = min(limit - side, int(low))
        return int(rng.integers(first, max(first, last) + 1))

    return start(left, right, width), start(top, bottom, height), side


class PhotosSource:
    """`num` crops, spread evenly over the photographs.

    The crop of an index depends on (seed, index, size) alone.
    """

    name = "photos"
    embedded = True
    default_format = "png"

    def __init__(self, num: int = 3072, seed: int = 0, size: int = 96):
        """Describes the source.

        Args:
          num: how many crops in all splits together.
          seed: of the crops.
          size: side of the stored pictures in pixels.
        """
        self._num, self._seed, self._size = num, seed, size

    def __len__(self) -> int:
        return self._num

    def identity(self) -> dict:
        table = hashlib.sha256(repr(PHOTOS).encode()).hexdigest()
        return {"num": self._num, "seed": self._seed, "size": self._size, "photos": table}

    def label_names(self) -> list[str]:
        return [photo.name for photo in PHOTOS]

    def _crop(self, index: int) -> tuple[int, Photo, tuple[int, int, int]]:
        label = index % len(PHOTOS)
        photo = PHOTOS[label]
        height, width = load(photo.file).shape[:2]
        rng = np.random.default_rng((self._seed, 13, index))
        return label, photo, crop_box(photo, width, height, self._size, rng)

    def _key(self, photo: Photo, index: int) -> str:
        return f"photos/{photo.name.replace(' ', '-')}/{index // len(PHOTOS):05d}"

    def describe(self, index: int) -> Description:
        _, photo, box = self._crop(index)
        text = json.dumps([photo.file, box, self._size])
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return Description(key=self._key(photo, index), sha256=sha256)

    def read(self, index: int) -> RawImage:
        label, photo, (x0, y0, side) = self._crop(index)
        crop = Image.fromarray(load(photo.file)[y0 : y0 + side, x0 : x0 + side])
        size = (self._size, self._size)
        # reducing_gap: averages the largest crops first, invisible and several times faster
        pixels = np.asarray(crop.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
        attributes = {"photo": photo.file, "crop": [x0, y0, side]}
        if not photo.mirror:
            attributes["no_flip"] = True
        return RawImage(
            key=self._key(photo, index),
            pixels=pixels,
            captions=photo.captions,
            label=label,
            label_name=photo.name,
            attributes=attributes,
        )
