"""The images of a folder: one listing, by the same rules for every command.

The rules stand in docs/data-formats.md. What looks like an image and is left out is counted.
"""

import dataclasses
import fnmatch
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from gen_jax.common import archives, files, image_formats, names, results
from gen_jax.common.errors import UserError
from gen_jax.common.left_out import (
    CLOSED,
    CYCLE,
    HIDDEN,
    OUTPUT,
    OWN,
    Kind,
    LeftOut,
    judge,
    summary,
)

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_HIDDEN_ENTRIES = 1000  # entries of a hidden folder that are searched for an image


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Attributes:
      folder: The folder.
      names: Paths inside the folder as the file system has them, with "/" between folders, in an
        order that is the same on every platform.
      left_out: What is not listed, in the same order.
    """

    folder: pathlib.Path
    names: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def paths(self) -> list[pathlib.Path]:
        """Path of each image."""
        return [self.folder / name for name in self.names]

    @property
    def keys(self) -> list[str]:
        """A unique name of each image that UTF-8 can hold."""
        return names.keys(self.names)


def scan(folder: str | os.PathLike, exclude: Sequence[str | os.PathLike] = ()) -> Listing:
    """Lists the images of a folder and its sub-folders.

    Args:
      folder: The folder; links are followed, and each real folder is read once.
      exclude: Folders that are written to, which need not exist.

    Raises:
      UserError: There is no such folder, or no image in it.
    """
    root = _existing(pathlib.Path(folder))
    walk = _Walk(root, exclude)
    listing = walk.listing(lambda name: True)
    if not listing.names:
        raise UserError(_empty(root, walk, listing.left_out))
    return listing


def scan_pattern(pattern: str, exclude: Sequence[str | os.PathLike] = ()) -> Listing:
    """Lists the images that a pattern fits, by the rules of `scan`.

    Args:
      pattern: Path with *, ?, [abc] and ** (any number of folders). Folders that exist under the
        name as it stands are taken literally, whatever letters the name holds.
      exclude: See `scan`.

    Returns:
      The listing of the folder before the first part that is a pattern.

    Raises:
      UserError: No image fits.
    """
    base, parts = pathlib.Path(), list(pathlib.Path(pattern).parts)
    while len(parts) > 1 and (base / parts[0]).is_dir():
        base /= parts.pop(0)
    walk = _Walk(base, exclude, None if "**" in parts else len(parts))
    literal = [part.replace("[", "[[]") for part in parts]
    for tried in (parts, literal):
        listing = walk.listing(lambda name, tried=tried: _fits(name.split("/"), tried))
        if listing.names:
            return listing
    # Also what does not fit: a folder that is left out may hold what was meant.
    listing = walk.listing(lambda name: True)
    raise UserError(f"{pattern}: no image fits this pattern" + _but(listing.left_out))


def scan_archive(archive: pathlib.Path, prefix: str = "") -> tuple[str, list[str], list[LeftOut]]:
    """Lists the images of a zip archive, by the rules of `scan`.

    Args:
      archive: The archive.
      prefix: Folder in it, "" for all of it.

    Returns:
      What stands before the names in the archive, the names, and what is left out.

    Raises:
      UserError: There is no such archive, nothing below the prefix, or no image there.
    """
    members, start = archives.names(archive), prefix.rstrip("/") + "/" if prefix else ""
    below = [name[len(start) :] for name in members if name.startswith(start)]
    if not below:
        folders = ", ".join(sorted({n.split("/")[0] for n in members if "/" in n})) or "no folder"
        raise UserError(f"{archive}: nothing below {prefix!r}; it has {folders}")
    chosen, left_out = choose(below)
    if not chosen:
        endings = ", ".join(image_formats.readable())
        raise UserError(f"{archive}:{prefix}: no image there; expected files ending in {endings}")
    return start, chosen, left_out


def choose(paths: Sequence[str]) -> tuple[list[str], list[LeftOut]]:
    """Chooses the images among the members of an archive, by the rules of `scan`.

    Args:
      paths: Paths of the members below one folder of the archive, with "/" between folders.

    Returns:
      The images in a fixed order, and what is left out.
    """
    beside, chosen, left_out = defaultdict(set), [], []
    for name in paths:
        folder, _, last = name.rpartition("/")
        beside[folder].add(last)
    for name in sorted(paths, key=names.order):
        folder, _, last = name.rpartition("/")
        verdict = judge(name, Kind.FILE, lambda: b"")
        if any(part.startswith(".") for part in folder.split("/")) and verdict:
            verdict = LeftOut(names.key(name), HIDDEN)
        elif verdict is True and results.is_overview(last, beside[folder]):
            verdict = LeftOut(names.key(name), OWN)
        if isinstance(verdict, LeftOut):
            left_out.append(verdict)
        elif verdict:
            chosen.append(name)
    return chosen, left_out


def _kind(entry: os.DirEntry) -> Kind:
    """Returns what an entry is, or what its link leads to."""
    try:
        if entry.is_dir():
            return Kind.FOLDER
        if entry.is_file():
            return Kind.FILE
        is_broken = entry.is_symlink() and not os.path.exists(entry.path)
    except OSError:  # links that lead to each other, or where we may not look
        return Kind.BROKEN
    return Kind.BROKEN if is_broken else Kind.OTHER


class _Walk:
    """Everything below a folder, each real folder once."""

    def __init__(
        self, root: pathlib.Path, exclude: Sequence[str | os.PathLike], depth: int | None = None
    ):
        """Reads the folders.

        Args:
          root: The folder to begin with.
          exclude: Folders to leave out.
          depth: Number of levels to read; None for all.
        """
        self._root, self._depth = root, depth
        self._images: list[str] = []
        self._left_out: list[LeftOut] = []
        self._beside: dict[str, set[str]] = {}  # folder -> names of everything in it
        self._read = {files.identity(root)}
        self._excluded = {files.identity(pathlib.Path(path)) for path in exclude} - {None}
        # To write beside or above the images excludes none of them.
        self._excluded -= _parents(root.resolve())
        # Real folders first, so that a folder has its own name and not that of a link to it.
        pending, links = [""], []
        while pending or links:
            if pending:
                self._visit(pending.pop(), pending, links)
                continue
            links.sort(key=names.order)
            link = links.pop(0)
            if self._is_new(link):
                pending.append(link)

    @property
    def archives(self) -> list[str]:
        """Archives below the folder, which may hold the images."""
        return [
            name
            for folder in sorted(self._beside)
            for name in sorted(self._beside[folder])
            if name.lower().endswith(_ARCHIVES)
        ]

    @property
    def is_dataset(self) -> bool:
        """Whether the folder is what `gen_jax.prepare` wrote."""
        return results.DATASET in self._beside.get("", ())

    def listing(self, fits: Callable[[str], bool]) -> Listing:
        """Returns the images whose path inside the folder fits."""
        images = [name for name in self._images if fits(name)]
        left_out = [item for item in self._left_out if fits(item.name)]
        again = set(self._restored_again(images))
        left_out += [LeftOut(names.key(name), OWN) for name in again]
        return Listing(
            self._root,
            tuple(sorted((n for n in images if n not in again), key=names.order)),
            tuple(sorted(left_out, key=lambda item: names.order(item.name))),
        )

    def _visit(self, folder: str, pending: list[str], links: list[str]) -> None:
        try:
            with os.scandir(self._root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise UserError(f"{self._root}: cannot be read ({error.strerror})") from None
            self._leave_out(folder, CLOSED, (error.strerror or "").lower())
            return
        beside = {entry.name for entry in entries}
        if folder and results.is_folder(beside):
            self._leave_out(folder, OWN)
            return
        self._beside[folder] = beside
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            kind = _kind(entry)
            if kind is not Kind.FOLDER:
                self._file(name, kind, entry, beside)
            elif entry.name.startswith("."):
                if _holds_image(entry.path):
                    self._leave_out(name, HIDDEN)
            elif self._depth is None or name.count("/") + 1 < self._depth:
                if entry.is_symlink():
                    links.append(name)
                elif self._is_new(name):
                    pending.append(name)

    def _file(self, name: str, kind: Kind, entry: os.DirEntry, beside: set[str]) -> None:
        verdict = judge(name, kind, lambda: _head(entry.path))
        if isinstance(verdict, LeftOut):
            self._left_out.append(verdict)
        elif verdict and results.is_overview(entry.name, beside):
            self._leave_out(name, OWN)
        elif verdict:
            self._images.append(name)

    def _is_new(self, folder: str) -> bool:
        """Returns whether a folder is to be read, and remembers it."""
        path = self._root / folder
        identity = files.identity(path)
        if identity in self._excluded:
            self._leave_out(folder, OUTPUT)
        elif identity is None:
            self._leave_out(folder, CLOSED)
        elif identity in self._read:
            return False
        elif path.is_symlink() and identity in _parents(path.parent.resolve()):
            self._leave_out(folder, CYCLE)
        elif path.is_symlink() and self._excluded & _parents(path.resolve()):
            self._leave_out(folder, OUTPUT)
        else:
            self._read.add(identity)
            return True
        return False

    def _leave_out(self, name: str, reason: str, advice: str = "") -> None:
        self._left_out.append(LeftOut(names.key(name), reason, advice))

    def _restored_again(self, images: Sequence[str]) -> Iterator[str]:
        """Yields results of `gen_jax.restore` whose originals are listed, too."""
        last = Counter(name.rsplit("/", 1)[-1] for name in images)
        for name in images:
            folder, _, own = name.rpartition("/")
            original = results.restored_from(self._root / folder, own, self._beside[folder])
            if original is not None and last[original] > (original == own):
                yield name


def _parents(path: pathlib.Path) -> set[tuple[int, int] | None]:
    """Identifies a folder and all that it lies in."""
    return {files.identity(folder) for folder in (path, *path.parents)}


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(image_formats.HEAD)
    except OSError:
        return b""


def _holds_image(folder: str) -> bool:
    """Returns whether a hidden folder holds an image, as far as a quick look shows."""
    left = _HIDDEN_ENTRIES
    for _, _, inside in os.walk(folder):
        if any(image_formats.problem(name) is not None for name in inside):
            return True
        left -= 1 + len(inside)
        if left < 0:
            break
    return False


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Returns whether the parts of a path fit those of a pattern; "**" stands for any number."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(path[i:], pattern[1:]) for i in range(len(path) + 1))
    return (
        bool(path)
        and fnmatch.fnmatchcase(names.composed(path[0]), names.composed(pattern[0]))
        and _fits(path[1:], pattern[1:])
    )


def _existing(folder: pathlib.Path) -> pathlib.Path:
    if folder.is_dir():
        return folder
    problem = "is a file" if folder.exists() else "no such folder"
    raise UserError(f"{folder}: {problem}; expected a folder of images")


def _empty(folder: pathlib.Path, walk: _Walk, left_out: Sequence[LeftOut]) -> str:
    if walk.is_dataset:
        return f"{folder}: is a prepared data set; expected a folder of images"
    packed = walk.archives
    more = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
    unpack = f"; unpack {packed[0]}{more}" if packed else ""
    endings = ", ".join(image_formats.readable())
    return (
        f"{folder}: no image in this folder or below it; expected files ending in {endings}"
        f"{unpack}{_but(left_out)}"
    )


def _but(left_out: Sequence[LeftOut]) -> str:
    return f"; left out: {summary(left_out)}" if left_out else ""
