"""Where images come from: one file a kind of source, opened by name with `open_source`."""

import os
import pathlib

from gen_jax.common.errors import UserError
from gen_jax.data.sources.base import Source

EMBEDDED = ("photos", "shapes")
_DEFAULTS = {"photos": {"num": 3072, "size": 96}, "shapes": {"num": 20000, "size": 64}}


def open_source(spec: str | os.PathLike, *, num: int = 0, size: int = 0, seed: int = 0) -> Source:
    """Opens a source by what the user wrote.

    Args:
      spec: "photos", "shapes", "tfds:NAME[:SPLIT]", "hf:NAME[:SPLIT]" or a folder.
      num: records of an embedded source; 0 for its default.
      size: side of an embedded source's pictures; 0 for its default.
      seed: of an embedded source.

    Raises:
      UserError: there is no such source; the message lists what there is.
    """
    text = str(spec)
    if text in EMBEDDED:  # a folder of this name is "./photos"
        num, size = num or _DEFAULTS[text]["num"], size or _DEFAULTS[text]["size"]
        if text == "photos":
            from gen_jax.data.sources.photos import PhotosSource

            return PhotosSource(num, seed, size)
        from gen_jax.data.sources.shapes import ShapesSource

        return ShapesSource(num, seed, size)
    if num:
        raise UserError(f"--num={num}: only {' and '.join(EMBEDDED)} take a number of records")
    if text.startswith("tfds:"):
        from gen_jax.data.sources.tfds import open_tfds

        return open_tfds(text.removeprefix("tfds:"))
    if text.startswith("hf:"):
        from gen_jax.data.sources.hf import open_hf

        return open_hf(text.removeprefix("hf:"))
    if pathlib.Path(text).is_dir():
        from gen_jax.data.sources.image_folder import ImageFolderSource

        return ImageFolderSource(text)
    raise UserError(
        f"--source={text}: no such folder; expected a folder of images, tfds:NAME[:SPLIT], "
        f"hf:NAME[:SPLIT], {' or '.join(EMBEDDED)}"
    )
