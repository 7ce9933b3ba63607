"""Pointers of git-lfs: the short text that stands in a clone where the file was not fetched."""

import os

from gen_jax.common.errors import UserError

_BEGINNING = b"version https://git-lfs"
LENGTH = len(_BEGINNING)
"""Bytes that `is_pointer` looks at."""


def is_pointer(data: bytes) -> bool:
    """Whether a file that begins with these bytes is a pointer (the git-lfs specification)."""
    return data.startswith(_BEGINNING)


def refuse(path: str | os.PathLike) -> None:
    """Raises UserError if a file is a pointer; any other file, and none, is let pass."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if is_pointer(file.read(LENGTH)):
                raise UserError(f"{path}: a git-lfs pointer, not the file: run `git lfs pull`")
