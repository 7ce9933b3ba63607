"""Files written whole or not at all."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


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
        write into each other's.

    Raises:
      OSError: the disk is full or the folder cannot be written to; `filename` is `path`.
    """
    path = pathlib.Path(path)
    if temporary is None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # write() names no file, open() one that the user has never heard of.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # gone, or never there
            temporary.unlink()
    _sync_folder(path.parent)


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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write_bytes(temporary, data)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


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
