"""Where images come from: one file per kind of source, opened by name with `open_source`."""

import os
import pathlib
from collections.abc import Sequence

from gen_jax.common import archives
from gen_jax.common.errors import UserError
from gen_jax.data.prepare.sources.base import Source

EMBEDDED = ("pictograms", "photos", "shapes")
LABELED = ("composites", "plates")
"""Embedded sources of what heads learn from: images with masks, and readable ones."""
PREFIX = "embedded:"
_DEFAULTS = {
    "pictograms": {"num": 20000, "size": 64},
    "photos": {"num": 3072, "size": 96},
    "shapes": {"num": 20000, "size": 64},
    "composites": {"num": 6000, "size": 80},
    "plates": {"num": 10000, "size": 40},
}


def open_source(
    spec: str | os.PathLike,
    *,
    num: int = 0,
    size: int = 0,
    seed: int = 0,
    exclude: Sequence[str | os.PathLike] = (),
    masks: str = "",
) -> Source:
    """Opens a source by what the user wrote.

    Args:
      spec: Name in `EMBEDDED` or `LABELED`, also as "embedded:photos"; "tfds:NAME[:SPLIT]";
        "hf:NAME[:SPLIT]"; a folder; or "FILE.zip[:PREFIX]", a folder in an archive.
      num: Number of records of an embedded source; 0 for its default.
      size: Side of an embedded source's images in pixels; 0 for its default.
      seed: Seed of an embedded source.
      exclude: Folders below a folder of images that are written to.
      masks: Pattern of the masks' names in a folder or archive of images, see `mask_names.named`.

    Raises:
      UserError: There is no such source; the message lists what there is.
    """
    text = str(spec)
    name = text.removeprefix(PREFIX)
    if name in (*EMBEDDED, *LABELED):
        if masks:
            raise UserError(f"masks={masks}: goes with a folder or archive of images, not {text}")
        num, size = num or _DEFAULTS[name]["num"], size or _DEFAULTS[name]["size"]
        if name == "photos":
            from gen_jax.data.prepare.sources.photos import PhotosSource

            return PhotosSource(num, seed, size)
        if name == "pictograms":
            from gen_jax.data.prepare.sources.pictograms import PictogramsSource

            return PictogramsSource(num, seed, size)
        if name == "composites":
            from gen_jax.data.prepare.sources.composites import CompositesSource

            return CompositesSource(num, seed, size)
        if name == "plates":
            from gen_jax.data.prepare.sources.plates import PlatesSource

            return PlatesSource(num, seed, size)
        from gen_jax.data.prepare.sources.shapes import ShapesSource

        return ShapesSource(num, seed, size)
    if num:
        raise UserError(
            f"num={num}: only {_names('and')} take a number of records, and {', '.join(LABELED)}"
        )
    if masks and text.startswith(("tfds:", "hf:")):
        raise UserError(f"masks={masks}: goes with a folder or archive of images, not {text}")
    if text.startswith("tfds:"):
        from gen_jax.data.prepare.sources.tfds import open_tfds

        return open_tfds(text.removeprefix("tfds:"))
    if text.startswith("hf:"):
        from gen_jax.data.prepare.sources.hf import open_hf

        return open_hf(text.removeprefix("hf:"))
    path = pathlib.Path(text)
    if not path.is_dir() and (inside := archives.split(text)):
        from gen_jax.data.prepare.sources.archive import ArchiveSource

        return ArchiveSource(*inside, masks)
    if path.is_dir():
        from gen_jax.data.prepare.sources.image_folder import ImageFolderSource

        return ImageFolderSource(path, exclude, masks)
    problem = "is a file, not a folder" if path.exists() else "no such folder"
    raise UserError(
        f"source={text}: {problem}; expected a folder of images, FILE.zip[:PREFIX], "
        f"tfds:NAME[:SPLIT], hf:NAME[:SPLIT], {_names('or')}"
    )


def _names(conjunction: str) -> str:
    """Returns the names of the embedded sources as a list in words."""
    return f"{', '.join(EMBEDDED[:-1])} {conjunction} {EMBEDDED[-1]}"


def check_unambiguous(spec: str, out: str) -> None:
    """Refuses a name that means an embedded source and a folder.

    Args:
      spec: What the user wrote.
      out: The folder that is written to: an interrupted command may have made one of this name.

    Raises:
      UserError: There is a folder of this name; the message has both spellings.
    """
    is_out = bool(out) and os.path.abspath(out) == os.path.abspath(spec)
    if spec in (*EMBEDDED, *LABELED) and os.path.isdir(spec) and not is_out:
        raise UserError(
            f"source={spec}: there is a folder of this name; write ./{spec} for the folder, or "
            f"{PREFIX}{spec} for the {spec} that come with the package"
        )
