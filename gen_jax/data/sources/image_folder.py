"""A folder of images, with captions where it holds a captions.jsonl."""

import hashlib
import json
import os
import pathlib

from gen_jax.common.errors import UserError
from gen_jax.data import captions, images
from gen_jax.data.schema import NO_LABEL
from gen_jax.data.sources.base import RawImage


def _listing(root: pathlib.Path) -> list[tuple[str, int]]:
    """(path inside the folder with "/", bytes) of every image, in a fixed order."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith(".") or not name.lower().endswith(images.EXTENSIONS):
                continue
            path = pathlib.Path(folder, name)
            found.append((path.relative_to(root).as_posix(), path.stat().st_size))
    return sorted(found)


class ImageFolderSource:
    """Every image in a folder and its sub-folders.

    The path of the sub-folder is the image's `label_name`; images at the top have
    no label. Files and folders whose names begin with a dot are left out.
    """

    name = "folder"
    embedded = False
    default_format = None

    def __init__(self, root: str | os.PathLike):
        """Lists the folder.

        Args:
          root: the folder.

        Raises:
          UserError: it holds no image, or its captions.jsonl has a wrong line.
        """
        self._root = pathlib.Path(root)
        listing = _listing(self._root)
        if not listing:
            raise UserError(
                f"{root}: no image in this folder or below it; "
                f"expected files ending in {', '.join(images.EXTENSIONS)}"
            )
        self._files = [name for name, _ in listing]
        path = self._root / captions.FILE
        self._captions = captions.read(path) if path.is_file() else {}
        parents = {pathlib.PurePosixPath(name).parent.as_posix() for name in self._files}
        self._labels = sorted(parents - {"."})
        self._listing_digest = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
        self._captions_digest = (
            hashlib.sha256(path.read_bytes()).hexdigest() if self._captions else ""
        )

    def __len__(self) -> int:
        return len(self._files)

    def identity(self) -> dict:
        return {"files": self._listing_digest, "captions": self._captions_digest}

    def label_names(self) -> list[str]:
        return list(self._labels)

    def missing(self) -> list[str]:
        """Files that captions.jsonl names and the folder lacks, with the line."""
        there = set(self._files)
        return [
            f"{name} (line {entry.line} of {captions.FILE})"
            for name, entry in self._captions.items()
            if name not in there
        ]

    def name_of(self, index: int) -> str:
        """Path of a file inside the folder."""
        return self._files[index]

    def read(self, index: int) -> RawImage:
        name = self._files[index]
        try:
            data = (self._root / name).read_bytes()
        except OSError as error:
            raise images.ImageError("corrupt", f"cannot be read ({error.strerror})") from None
        parent = pathlib.PurePosixPath(name).parent.as_posix()
        entry = self._captions.get(name)
        return RawImage(
            key=name,
            data=data,
            captions=entry.captions if entry else (),
            label=self._labels.index(parent) if parent != "." else NO_LABEL,
            label_name=parent if parent != "." else "",
            attributes=dict(entry.attributes) if entry else {},
        )
