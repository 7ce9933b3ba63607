"""Sets of images that metrics are taken of: an array, or files read as they are needed."""

import pathlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from gen_jax.common import image_folder, image_formats, names
from gen_jax.common.errors import UserError

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
    """The images of a folder, in the order of their names without endings.

    Args:
      folder: Folder that is read with its sub-folders, see `image_folder.scan`.
      size: Side that images are center-cropped and resized to, in pixels; 0 leaves them as they
        are, which needs equal sizes.

    Attributes:
      folder: The folder.
      paths: Path of each image.
      keys: Path of each image inside the folder, safe to store.
      left_out: What the folder holds beside them.

    Raises:
      UserError: There is no such folder, or no image in it.
    """

    def __init__(self, folder: str, size: int):
        listing = image_folder.scan(folder)
        self.folder, self._size, self.left_out = listing.folder, size, listing.left_out
        # Without endings, so that a folder of PNG pairs with the same names in JPEG.
        listed = sorted(
            zip(listing.paths, listing.keys), key=lambda item: names.order(_bare(item[1]))
        )
        self.paths, self.keys = ([item[i] for item in listed] for i in range(2))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """Paths inside the folder in normal form NFC, without their endings."""
        return [names.composed(_bare(key)) for key in self.keys]

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
                        f"{first[1][1]}x{first[1][0]}: bring them to one size with size=SIDE"
                    )
            yield np.stack(images)

    def _read(self, path: pathlib.Path) -> np.ndarray:
        from gen_jax.data import images as images_lib

        try:
            image, _ = images_lib.open_strict(path.read_bytes())
        except images_lib.ImageError as error:
            raise UserError(f"{names.printable(path)}: {error}; remove it or replace it") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{names.printable(path)}: cannot be read ({reason})") from None
        if not self._size:
            return image
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        crop = np.ascontiguousarray(image[top : top + side, left : left + side])
        return images_lib.resize(crop, self._size)


def _bare(name: str) -> str:
    """Removes the ending, or both of them: `gen_jax.restore` writes a.gif to a.gif.png."""
    while image_formats.problem(name.rsplit("/", 1)[-1]) is not None:
        name = name.rpartition(".")[0]
    return name
