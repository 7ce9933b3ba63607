"""Square crops of another source's pictures: a small collection becomes a data set of details."""

import dataclasses

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.prepare import quality
from gen_jax.data.prepare.sources.base import RawImage, Rejected, Source

_SMALLEST = 0.3  # of the short side, where that is not less than the size


class CropsSource:
    """`count` crops of each picture, of all sizes from the stored size (or three tenths of the
    short side, if that is more) to the short side.

    A crop depends on its picture's content, its number and the seed alone, and goes where its
    picture goes: no split has a detail of a picture that another split has, and pictures that are
    added later move nothing.
    """

    embedded = False
    default_format = None

    def __init__(self, pictures: Source, count: int, size: int, seed: int):
        """Describes the source.

        Args:
          pictures: whole ones.
          count: crops of each.
          size: short side that they will be stored at, in pixels.
          seed: of where they lie.

        Raises:
          UserError: an embedded source, which crops by itself, or no size.
        """
        if pictures.embedded:
            raise UserError(f"crops={count}: {pictures.name} has crops of its own; use num")
        if not size:
            raise UserError(f"crops={count}: give the side of the crops as size, in pixels")
        self.name = pictures.name
        self._pictures, self._count, self._size, self._seed = pictures, count, size, seed
        self._last: tuple[int, RawImage, np.ndarray, str] | None = None

    def __len__(self) -> int:
        return len(self._pictures) * self._count

    def __getstate__(self):
        return {**self.__dict__, "_last": None}

    def identity(self) -> dict:
        return {"crops": self._count, "seed": self._seed, "of": self._pictures.identity()}

    def label_names(self) -> list[str]:
        return self._pictures.label_names()

    def left_out(self) -> list[Rejected]:
        """See `ImageFolderSource.left_out`."""
        return getattr(self._pictures, "left_out", list)()

    def _picture(self, index: int) -> tuple[RawImage, np.ndarray, str]:
        """A whole picture: all crops of one follow each other, and it is decoded once for them."""
        if self._last is None or self._last[0] != index:
            raw = self._pictures.read(index)
            pixels = raw.pixels if raw.pixels is not None else images.open_strict(raw.data)[0]
            quality.check_mask(raw.mask, pixels)
            self._last = (index, raw, pixels, quality.pixel_digest(pixels))
        return self._last[1:]

    def read(self, index: int) -> RawImage:
        place, number = divmod(index, self._count)
        try:
            raw, pixels, digest = self._picture(place)
        except images.ImageError as error:
            if number:  # its first crop has said so: one file, one damaged file
                raise images.ImageError(quality.UNUSABLE, str(error)) from error
            raise
        x0, y0, side = self._box(*pixels.shape[:2], digest, number)
        return dataclasses.replace(
            raw,
            key=f"{raw.key}#{number:03d}",
            data=None,
            pixels=np.ascontiguousarray(pixels[y0 : y0 + side, x0 : x0 + side]),
            mask=None if raw.mask is None else raw.mask[y0 : y0 + side, x0 : x0 + side],
            attributes={**raw.attributes, "picture": raw.key, "crop": [x0, y0, side]},
            group=digest,
        )

    def _box(self, height: int, width: int, digest: str, number: int) -> tuple[int, int, int]:
        short = min(height, width)
        rng = np.random.default_rng((self._seed, int(digest[:12], 16), number))
        least = min(short, max(self._size, int(_SMALLEST * short)))
        # Even in the logarithm: as many details as large parts.
        side = round(least * (short / least) ** rng.random())
        return int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1)), side
