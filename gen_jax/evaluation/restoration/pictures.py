"""The pictures of a benchmark: files of a folder, or of a zip below a prefix."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from gen_jax.common import archives, image_folder, names
from gen_jax.common.errors import UserError
from gen_jax.common.left_out import LeftOut
from gen_jax.data import images


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file that is decoded when it is asked for.

    Attributes:
      name: its path below the folder or prefix.
      where: what to call it in a message.
      read: gives its bytes.
    """

    name: str
    where: str
    read: Callable[[], bytes]

    def pixels(self) -> UInt8[np.ndarray, "h w c"]:
        """One channel where the file stores one, else RGB.

        Raises:
          UserError: it cannot be decoded.
        """
        try:
            data = self.read()
            rgb, _ = images.open_strict(data)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{self.where}: cannot be read ({reason})") from None
        except images.ImageError as error:
            raise UserError(f"{self.where}: {error}; remove it or replace it") from None
        # A gray picture stored as RGB stays RGB: the literature's scripts tell them by the file.
        return rgb[..., :1] if images.is_gray(data) else rgb


def listed(spec: str) -> list[Picture]:
    """Lists the images that a user names; see `scanned`."""
    return scanned(spec)[0]


def scanned(spec: str) -> tuple[list[Picture], Sequence[LeftOut]]:
    """Lists the images that a user names, by the rules of `image_folder`.

    Args:
      spec: A folder, or FILE.zip[:PREFIX] with PREFIX a folder inside.

    Returns:
      The images in the order of their names, and what is left out.

    Raises:
      UserError: There is nothing, or no image.
    """
    if inside := archives.split(spec):
        return _of_archive(*inside)
    listing = image_folder.scan(spec)
    found = [
        Picture(key, names.printable(path), path.read_bytes)
        for key, path in zip(listing.keys, listing.paths)
    ]
    return found, listing.left_out


def _of_archive(archive: pathlib.Path, prefix: str):
    start, chosen, left_out = image_folder.scan_archive(archive, prefix)

    def picture(name: str) -> Picture:
        where = f"{archive}:{start}{name}"
        return Picture(name, where, lambda: archives.read(archive, start + name))

    return [picture(name) for name in chosen], left_out
