"""Outputs of commands: checked before any work, and written whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator

from gen_jax.common.errors import UserError


def check_folder(path: str | os.PathLike, name: str) -> pathlib.Path:
    """Checks that a folder can be created or written to, without creating it.

    Args:
      path: Path of the folder. Its parents need not exist.
      name: What the path is called in the error message, such as "--out" by a command.

    Returns:
      The absolute path.

    Raises:
      UserError: A file has this name, or the file system does not let us write there.
    """
    folder = pathlib.Path(path).absolute()
    if _exists(folder, path, name) and not folder.is_dir():
        raise UserError(f"{name}={path}: is a file, expected a folder; name another one")
    _check_writable(folder, path, name)
    return folder


def check_file(path: str | os.PathLike, name: str) -> pathlib.Path:
    """Checks that a file can be written, without creating it or its folder.

    Args and errors as in `check_folder`; a folder is refused.
    """
    file = pathlib.Path(path).absolute()
    if str(path).endswith(os.sep) or file.is_dir():
        raise UserError(f"{name}={path}: is a folder, expected a file; add a file's name")
    _exists(file, path, name)
    _check_writable(file.parent, path, name)
    return file


@contextlib.contextmanager
def writing(folder: pathlib.Path, replaced: Iterable[pathlib.Path] = ()) -> Iterator[pathlib.Path]:
    """Yields a temporary folder whose content appears in `folder` once the block succeeds.

    A new folder appears whole by one rename. An existing one receives each file or sub-folder by
    a rename. After an error in the block nothing is left and nothing has changed; after one between
    two renames each file is either the old or the new one, whole.

    Args:
      folder: Absolute path of the final folder; its parents are created as well.
      replaced: Files in it that the new ones replace: those of other names are removed.
    """
    is_new = not folder.exists()
    parent = folder.parent if is_new else folder  # on the same file system, and writable
    made = [p for p in (parent, *parent.parents) if not p.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f".{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        if is_new:
            os.rename(temporary, folder)
        else:
            new = sorted(path.name for path in temporary.iterdir())
            for name in new:
                os.replace(temporary / name, folder / name)
            temporary.rmdir()
            for path in replaced:
                if path.name not in new:
                    path.unlink()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()
        raise


def _exists(path: pathlib.Path, text: str | os.PathLike, name: str) -> bool:
    """Returns whether `path` exists; a name that no file can have raises UserError."""
    try:
        os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{name}={text}: is a link to nothing; name another one") from None
        return False
    except OSError as error:
        raise _refusal(error, text, name) from error
    return True


def _check_writable(folder: pathlib.Path, text: str | os.PathLike, name: str) -> None:
    """Writes a nameless file to the nearest folder that exists."""
    nearest = next(p for p in (folder, *folder.parents) if _exists(p, text, name))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise _refusal(error, text, name) from error


def _refusal(error: OSError, text: str | os.PathLike, name: str) -> UserError:
    return UserError(
        f"{name}={text}: cannot write there ({error.strerror}); name a place that you may write to"
    )
