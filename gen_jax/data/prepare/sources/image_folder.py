"""A folder of images, with captions where it holds a captions.jsonl."""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence

from gen_jax.common import checksum, image_folder, left_out
from gen_jax.data import images
from gen_jax.data.prepare.sources.base import RawImage, Rejected
from gen_jax.data.schema import NO_LABEL
from gen_jax.data.text import captions


class ImageFolderSource:
    """Every image in a folder and its sub-folders, as `image_folder.scan` lists them.

    The path of the sub-folder is the image's `label_name`; images at the top have no label.
    """

    name = "folder"
    embedded = False
    default_format = None

    def __init__(self, root: str | os.PathLike, exclude: Sequence[str | os.PathLike] = ()):
        """Lists the folder.

        Args:
          root: The folder.
          exclude: Folders to leave out, because they are written to.

        Raises:
          UserError: There is no image in it, or its captions.jsonl has a wrong line.
        """
        listing = image_folder.scan(root, exclude)
        self._paths, self._keys = listing.paths, listing.keys
        # An interrupted run may have made the output folder: what is reported must not change.
        self._left_out = [
            Rejected(item.name, item.reason, item.advice)
            for item in listing.left_out
            if item.reason != left_out.OUTPUT
        ]
        path = listing.folder / captions.FILE
        written = captions.read(path) if path.is_file() else {}
        self._captions, missing = captions.match(written, self._keys)
        known = {item.key for item in self._left_out}
        self._left_out += [
            Rejected(f"{name} (line {entry.line} of {captions.FILE})", "missing", "no such file")
            for name, entry in missing.items()
            if name not in known
        ]
        parents = {pathlib.PurePosixPath(key).parent.as_posix() for key in self._keys}
        self._labels = sorted(parents - {"."})
        sizes = [(name, _size(path)) for name, path in zip(listing.names, self._paths)]
        self._listing_digest = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
        self._captions_digest = checksum.of_file(path) if written else ""

    def __len__(self) -> int:
        return len(self._keys)

    def identity(self) -> dict:
        return {"files": self._listing_digest, "captions": self._captions_digest}

    def label_names(self) -> list[str]:
        return list(self._labels)

    def left_out(self) -> list[Rejected]:
        """What the folder, or its captions.jsonl, names and this source does not give."""
        return list(self._left_out)

    def name_of(self, index: int) -> str:
        """Returns the key of an image, which is its path inside the folder."""
        return self._keys[index]

    def read(self, index: int) -> RawImage:
        key = self._keys[index]
        try:
            data = self._paths[index].read_bytes()
        except OSError as error:
            raise images.ImageError("corrupt", f"cannot be read ({error.strerror})") from None
        parent = pathlib.PurePosixPath(key).parent.as_posix()
        entry = self._captions.get(key)
        return RawImage(
            key=key,
            data=data,
            captions=entry.captions if entry else (),
            label=self._labels.index(parent) if parent != "." else NO_LABEL,
            label_name=parent if parent != "." else "",
            attributes=dict(entry.attributes) if entry else {},
        )


def _size(path: pathlib.Path) -> int:
    """Returns the size of a file in bytes; 0 if it may not be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
