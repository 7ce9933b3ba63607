"""Which files `gen_jax.restore` reads, and which file each becomes."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

from gen_jax.common import files, image_folder, names
from gen_jax.common.errors import UserError
from gen_jax.common.left_out import LOST, summary
from gen_jax.data.photographs import sequences, writing

_RESTORED = "_restored"


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to restore.

    Attributes:
      source: File to read; None for standard input.
      out: File to write; None for standard output.
    """

    source: pathlib.Path | None
    out: pathlib.Path | None

    @property
    def kind(self) -> str:
        """Format of the result."""
        return format_of(self.source, self.out) if self.out else "PNG"

    @property
    def shown(self) -> str:
        """What to call it in a message."""
        return names.printable(self.source) if self.source else "standard input"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
      jobs: One per image.
      notes: Lines to print on what was left out.
      lost: Number of images or folders that should have been restored and cannot be.
    """

    jobs: list[Job]
    notes: tuple[str, ...] = ()
    lost: int = 0


def format_of(source: pathlib.Path | None, out: pathlib.Path) -> str:
    """Returns the format of a result, which may be GIF if the input is an animation.

    Raises:
      UserError: The name asks for no format that is written.
    """
    is_gif = out.suffix.lower() == ".gif"
    return writing.format_of(out, is_gif and source is not None and sequences.is_sequence(source))


def plan(inputs: Sequence[str], out: str, suffix: str = "") -> Plan:
    """Decides which file becomes which.

    Args:
      inputs: Files, folders, patterns (see `image_folder.scan_pattern`), or "-".
      out: A file; a folder if it is one, ends in a slash, or several images come; "-" for standard
        output; "" for NAME_restored beside the one image or folder.
      suffix: If it is not "", each result lies beside its image, with the suffix behind its name.
        Results of an earlier call are left out of folders and patterns then.

    Raises:
      UserError: There is nothing to do, or one output for several images.
    """
    if not inputs:
        raise UserError("name images to restore: files, folders or patterns")
    if suffix:
        return _beside(inputs, out, suffix)
    if not out:
        if len(inputs) > 1 or "-" in inputs:
            raise UserError("out is missing: name a file, or a folder for several")
        out = str(_default(pathlib.Path(inputs[0])))
    if "-" in inputs:
        if len(inputs) > 1:
            raise UserError("-: standard input is one picture; name no others beside it")
        if out == "-":
            return Plan([Job(None, None)])
        path = pathlib.Path(out)
        format_of(None, path)
        return Plan([Job(None, path)])
    found, listings = _found(inputs, out)
    if not any(source.exists() for source, _ in found):
        raise UserError(f"{names.printable(found[0][0])}: no such file; check its name")
    is_folder = out.endswith(os.sep) or pathlib.Path(out).is_dir()
    into_folder = bool(listings) or len(found) > 1 or is_folder
    if out == "-":
        if into_folder:
            raise UserError("out=-: standard output holds one image; name a folder")
        return Plan([Job(found[0][0], None)])
    if not into_folder:
        format_of(found[0][0], pathlib.Path(out))
        return Plan([Job(found[0][0], pathlib.Path(out))])
    jobs = [Job(source, _named(source, pathlib.Path(out) / below)) for source, below in found]
    return Plan(_apart(jobs), tuple(_notes(listings)), _lost(listings))


def _beside(inputs: Sequence[str], out: str, suffix: str) -> Plan:
    """Plans results beside their images."""
    if out:
        raise UserError(f"suffix={suffix}: results lie beside their images; leave out out")
    if "-" in inputs:
        raise UserError(f"suffix={suffix}: standard input has no name; name an output instead")
    if "/" in suffix or os.sep in suffix or "\0" in suffix:
        raise UserError(f"suffix={suffix}: expected part of a file name, without a slash")
    sources, listings = _found(inputs, "")
    if not any(source.exists() for source, _ in sources):
        raise UserError(f"{names.printable(sources[0][0])}: no such file; check its name")
    there = {source.with_name(source.stem) for source, _ in sources}
    jobs = []
    for source, _ in sources:
        original = source.with_name(source.stem.removesuffix(suffix))
        if source.stem.endswith(suffix) and original in there and original.name:
            continue  # a result
        jobs.append(Job(source, _suffixed(source, suffix)))
    return Plan(_apart(jobs), tuple(_notes(listings)), _lost(listings))


def _lost(listings: Sequence[image_folder.Listing]) -> int:
    left_out = [item for listing in listings for item in listing.left_out]
    return sum(item.reason in LOST for item in left_out)


def _suffixed(source: pathlib.Path, suffix: str) -> pathlib.Path:
    """Returns the path beside an image with a suffix, as PNG if its format is not written."""
    ending = source.suffix if _is_written(source, source) else ".png"
    return files.with_ending(source.with_name(source.stem), suffix + ending)


def _is_written(source: pathlib.Path, out: pathlib.Path) -> bool:
    ending = out.suffix.lower()
    return ending in writing.FORMATS or (ending == ".gif" and sequences.is_sequence(source))


def _found(inputs: Sequence[str], out: str):
    """Files with their paths below the output folder, and the listings of folders among them."""
    found: list[tuple[pathlib.Path, pathlib.Path]] = []
    listings, written = [], [out] if out else []
    for name in inputs:
        path = pathlib.Path(name)
        if path.is_dir():
            listings.append(image_folder.scan(path, written))
        elif _is_pattern(name):
            listings.append(image_folder.scan_pattern(name, written))
        else:
            found.append((path, pathlib.Path(path.name)))
            continue
        found += zip(listings[-1].paths, map(pathlib.Path, listings[-1].names))
    return found, listings


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[") and not os.path.lexists(name)


def _notes(listings: Sequence[image_folder.Listing]) -> Iterator[str]:
    for listing in listings:
        if listing.left_out:
            where = names.printable(listing.folder)
            yield f"left out of {where}: {summary(listing.left_out)}"


def _default(source: pathlib.Path) -> pathlib.Path:
    if source.name in ("", ".."):  # such as "." and "..", which have no name to add to
        source = source.resolve()
    if not source.name or _is_pattern(str(source)):
        raise UserError(f"{source}: out is missing; name the folder to write to")
    if source.is_dir():
        return files.with_ending(source, _RESTORED)
    return _suffixed(source, _RESTORED)


def _named(source: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Returns the path of a result, with .png added if its format is not written."""
    if _is_written(source, path):
        return path
    return files.with_ending(path, ".png")


def _apart(jobs: list[Job]) -> list[Job]:
    """Drops jobs that come twice, and refuses two inputs that would overwrite each other."""
    seen: dict[pathlib.Path | None, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.out, job)
        if not _is_same(other.source, job.source):
            raise UserError(
                f"{other.shown} and {job.shown} would both become {names.printable(job.out)}: "
                "restore them into two folders"
            )
    return list(seen.values())


def _is_same(first: pathlib.Path, second: pathlib.Path) -> bool:
    if first == second:
        return True
    return first.exists() and second.exists() and os.path.samefile(first, second)
