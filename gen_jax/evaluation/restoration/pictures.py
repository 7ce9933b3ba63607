"""The pictures of a benchmark: files of a folder, or of a zip below a prefix."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from gen_jax.common import archives
from gen_jax.common.errors import UserError
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
        data = self.read()
        try:
            rgb, _ = images.open_strict(data)
        except images.ImageError as error:
            raise UserError(f"{self.where}: {error}; remove it or replace it") from None
        # A gray picture stored as RGB stays RGB: the literature's scripts tell them by the file.
        return rgb[..., :1] if images.is_gray(data) else rgb


def listed(spec: str) -> list[Picture]:
    """The pictures that a user names, in the order of their names.

    Args:
      spec: a folder, or FILE.zip[:PREFIX], PREFIX being a folder inside.

    Raises:
      UserError: nothing there, or no picture in it.
    """
    if inside := archives.split(spec):
        found = _of_archive(*inside)
    else:
        found = _of_folder(pathlib.Path(spec))
    if not found:
        raise UserError(f"{spec}: holds no picture ({', '.join(images.EXTENSIONS)})")
    return found


def _of_folder(folder: pathlib.Path) -> list[Picture]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected pictures, or FILE.zip:PREFIX")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [Picture(n, str(folder / n), (folder / n).read_bytes) for n in names if _fits(n)]


def _of_archive(archive: pathlib.Path, prefix: str) -> list[Picture]:
    names, start = archives.names(archive), prefix.rstrip("/") + "/" if prefix else ""
    below = [n for n in names if n.startswith(start)]
    if not below:
        folders = ", ".join(sorted({n.split("/")[0] for n in names if "/" in n})) or "no folder"
        raise UserError(f"{archive}: nothing below {prefix!r}; it has {folders}")

    def picture(name: str) -> Picture:
        where = f"{archive}:{name}"
        return Picture(name[len(start) :], where, lambda: archives.read(archive, name))

    return [picture(n) for n in below if _fits(n)]


def _fits(name: str) -> bool:
    last = name.rsplit("/", 1)[-1].lower()
    return last.endswith(images.EXTENSIONS) and not last.startswith(".")
