"""Files written whole or not at all."""

import contextlib
import hashlib
import os
import pathlib
import uuid
from collections.abc import Iterator

from gen_jax.common.errors import UserError

_NAME_BYTES = 255  # of a file name, where the file system does not say


def with_ending(path: str | os.PathLike, ending: str) -> pathlib.Path:
    """Returns the path with an ending added to its name, shortened if it would be too long.

    Args:
      path: Path of a file, which need not exist.
      ending: What to add, such as ".json".

    Returns:
      `path` with its name and the ending. If the file system has no room for that name, the name
      is cut and a digest of the whole name added, so that two long names stay apart.
    """
    path = pathlib.Path(path)
    name, limit = path.name, _longest_name(path.absolute().parent)
    if len(os.fsencode(name + ending)) > limit:
        mark = "~" + hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        while name and len(os.fsencode(name + mark + ending)) > limit:
            name = name[:-1]
        name += mark
    return path.parent / (name + ending)


def _longest_name(folder: pathlib.Path) -> int:
    """Returns how many bytes a file name may have in a folder, which need not exist."""
    there = next((p for p in (folder, *folder.parents) if os.path.isdir(p)), folder)
    try:
        return os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # AttributeError: not on Windows
        return _NAME_BYTES


def _temporary(path: pathlib.Path) -> pathlib.Path:
    """Returns a hidden name beside a file, another one each time."""
    return with_ending(path.with_name("." + path.name), f".{uuid.uuid4().hex[:8]}.tmp")


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike, temporary: pathlib.Path | None = None
) -> Iterator[pathlib.Path]:
    """Yields a path to write a file to; on success it takes the name `path` in one step.

    Whoever reads `path`, also after a crash or a power cut, finds the old file or the whole new
    one. An exception leaves the old file as it is, and no temporary file.

    Args:
      path: the final name, in a folder that exists.
      temporary: where the file grows, on the same file system. By default beside `path`, as
        `.NAME.XXXXXXXX.tmp`, which is another name each time: two writers of one file do not
        write into each other's. A long NAME is shortened.

    Raises:
      OSError: the disk is full or the folder cannot be written to; `filename` is `path`.
    """
    path = pathlib.Path(path)
    if temporary is None:
        temporary = _temporary(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # write() names no file, open() one that the user does not know.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # gone, or never there
            temporary.unlink()
    _sync_folder(path.parent)


def identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """Identifies an existing file or folder, whatever links lead to it; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file by `replacing`; makes its folder where there is none."""
    folder = pathlib.Path(path).parent
    if not folder.exists():  # where it is a file, what follows says so better than mkdir
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_once(path: str | os.PathLike, data: bytes) -> bytes:
    """Writes a file that several processes may make at once: the first one's stands.

    Returns:
      What the file holds, by whoever wrote it.
    """
    path = pathlib.Path(path)
    temporary = _temporary(path)
    try:
        write_bytes(temporary, data)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


def read_text(path: str | os.PathLike) -> str:
    """Returns the text of a file in UTF-8, whatever the locale, without a byte order mark.

    Editors on Windows write the mark, and JSON parsers refuse it.
    """
    return pathlib.Path(path).read_text(encoding="utf-8-sig")


def write_text(path: str | os.PathLike, text: str) -> None:
    """`write_bytes` of the text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def _sync_folder(folder: pathlib.Path) -> None:
    """Makes a rename survive a power cut, where the file system knows how to."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_LFS = b"version https://git-lfs"
LFS_LENGTH = len(_LFS)
"""Bytes that `is_lfs_pointer` reads."""


def is_lfs_pointer(data: bytes) -> bool:
    """Returns whether a file that begins with these bytes is a pointer of git-lfs.

    A pointer is the short text that stands in a clone whose large files were not fetched.
    """
    return data.startswith(_LFS)


def refuse_lfs_pointer(path: str | os.PathLike) -> None:
    """Raises UserError if a file is a pointer of git-lfs; a missing file passes."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if is_lfs_pointer(file.read(LFS_LENGTH)):
                raise UserError(f"{path}: a git-lfs pointer, not the file: run `git lfs pull`")
