"""Sets of images that metrics are taken of: an array, or files read as they are needed."""

import pathlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from gen_jax.common.errors import UserError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_AT_ONCE = 512


@runtime_checkable
class ImageSet(Protocol):
    """Some images, in an order."""

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[np.ndarray]:
        """All of them as uint8 `[n, h, w, 3]`, some at a time."""


class ArrayImages:
    """Images that are there already, uint8 `[n, h, w, 3]`."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def chunks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._images), _AT_ONCE):
            yield self._images[start : start + _AT_ONCE]


class FolderImages:
    """The image files of a folder, read recursively in the order of their names.

    Args:
      folder: where they are.
      size: side that they are centre-cropped and resized to, in pixels; 0 leaves them as they
        are, which asks for equal sizes.

    Raises:
      UserError: no such folder, or no image in it.
    """

    def __init__(self, folder: str, size: int):
        self.folder, self._size = pathlib.Path(folder), size
        if not self.folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected images to compare")
        found = [p for p in self.folder.rglob("*") if p.suffix.lower() in _SUFFIXES]
        self.paths = sorted(p for p in found if not _is_grid(p, found))
        if not self.paths:
            raise UserError(f"{folder}: holds no image ({', '.join(sorted(_SUFFIXES))})")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """Paths relative to the folder, without their endings."""
        return [str(p.relative_to(self.folder).with_suffix("")) for p in self.paths]

    def chunks(self) -> Iterator[np.ndarray]:
        """Decodes the files.

        Raises:
          UserError: one that cannot be read, or of another size than the first.
        """
        first = None
        for start in range(0, len(self.paths), _AT_ONCE):
            images = [self._read(path) for path in self.paths[start : start + _AT_ONCE]]
            for path, image in zip(self.paths[start:], images):
                first = first or (path, image.shape)
                if image.shape != first[1]:
                    raise UserError(
                        f"{path} has {image.shape[1]}x{image.shape[0]} pixels, {first[0].name} "
                        f"{first[1][1]}x{first[1][0]}: bring them to one size with --size=SIDE"
                    )
            yield np.stack(images)

    def _read(self, path: pathlib.Path) -> np.ndarray:
        from gen_jax.data import images as images_lib

        try:
            image, _ = images_lib.open_strict(path.read_bytes())
        except images_lib.ImageError as error:
            raise UserError(f"{path}: {error}; remove it or replace it") from error
        if not self._size:
            return image
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        crop = np.ascontiguousarray(image[top : top + side, left : left + side])
        return images_lib.resize(crop, self._size)


def _is_grid(path: pathlib.Path, found: list[pathlib.Path]) -> bool:
    """The overview that gen_jax.generate puts beside its pictures, which have manifests."""
    return path.name == "grid.png" and any(
        p.parent == path.parent and p.with_suffix(".json").is_file() for p in found
    )
