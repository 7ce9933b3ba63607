"""Pointers of git-lfs: the short text that stands in a clone where the file was not fetched."""

_BEGINNING = b"version https://git-lfs"
LENGTH = len(_BEGINNING)
"""Bytes that `is_pointer` looks at."""


def is_pointer(data: bytes) -> bool:
    """Whether a file that begins with these bytes is a pointer (the git-lfs specification)."""
    return data.startswith(_BEGINNING)
