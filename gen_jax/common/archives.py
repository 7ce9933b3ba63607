"""Members of zip files, named as FILE.zip:MEMBER."""

import contextlib
import pathlib
import re
import zipfile
from collections.abc import Iterator

from gen_jax.common import files
from gen_jax.common.errors import UserError

_SPEC = re.compile(r"(?i)(.*?\.zip)(?::(.*))?")


def split(spec: str) -> tuple[pathlib.Path, str] | None:
    """The archive and what stands after its colon ("" for nothing); None where it is no zip."""
    found = _SPEC.fullmatch(spec)
    return (pathlib.Path(found[1]), found[2] or "") if found else None


def names(archive: pathlib.Path) -> list[str]:
    """All files in an archive, sorted.

    Raises:
      UserError: no such file, or no zip.
    """
    with _opened(archive) as file:
        return sorted(n for n in file.namelist() if not n.endswith("/"))


def read(archive: pathlib.Path, member: str) -> bytes:
    """One file of an archive.

    Raises:
      UserError: it is not there, or damaged.
    """
    with _opened(archive) as file:
        try:
            return file.read(member)
        except KeyError:
            ending = pathlib.PurePosixPath(member).suffix
            some = [n for n in sorted(file.namelist()) if n.endswith(ending)][:6]
            raise UserError(
                f"{archive}: holds no {member!r}; it has {', '.join(some) or 'nothing like it'}"
            ) from None


@contextlib.contextmanager
def _opened(archive: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{archive}: no such file; expected a zip archive") from None
    except zipfile.BadZipFile as error:
        with open(archive, "rb") as file:
            is_pointer = files.is_lfs_pointer(file.read(files.LFS_LENGTH))
        advice = "is a git-lfs pointer: run `git lfs pull`"
        if not is_pointer:
            advice = f"cannot be read as a zip ({error}): get it again"
        raise UserError(f"{archive}: {advice}") from None
    except (EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive}: cannot be read as a zip ({error}): get it again") from None
