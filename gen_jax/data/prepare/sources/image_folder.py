"""A folder of images, with captions if it holds a captions.jsonl."""

import os
import pathlib
from collections.abc import Sequence

from gen_jax.common import checksum, image_folder, left_out
from gen_jax.data import images
from gen_jax.data.prepare.sources.captioned import CaptionedFiles
from gen_jax.data.text import captions


class ImageFolderSource(CaptionedFiles):
    """Every image in a folder and its sub-folders, as `image_folder.scan` lists them."""

    name = "folder"

    def __init__(
        self,
        root: str | os.PathLike,
        exclude: Sequence[str | os.PathLike] = (),
        masks: str = "",
    ):
        """Lists the folder.

        Args:
          root: The folder.
          exclude: Folders to leave out, because they are written to.
          masks: Pattern of the masks' names, see `mask_names.named`.

        Raises:
          UserError: There is no image in it, or its captions.jsonl has a wrong line.
        """
        listing = image_folder.scan(root, exclude)
        self._paths = listing.paths
        path = listing.folder / captions.FILE
        written = captions.read(path) if path.is_file() else {}
        super().__init__(
            keys=listing.keys,
            sizes=[(name, _size(path)) for name, path in zip(listing.names, self._paths)],
            written=written,
            captions_digest=checksum.of_file(path) if written else "",
            # An interrupted run may have made the output folder: what is reported must not change.
            left_out=[item for item in listing.left_out if item.reason != left_out.OUTPUT],
            where=str(path),
            masks=masks,
        )

    def _bytes(self, index: int) -> bytes:
        try:
            return self._paths[index].read_bytes()
        except OSError as error:
            raise images.ImageError("corrupt", f"cannot be read ({error.strerror})") from None


def _size(path: pathlib.Path) -> int:
    """Returns the size of a file in bytes; 0 if it may not be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
