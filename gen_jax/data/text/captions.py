"""captions.jsonl: one JSON object a line, {"file": ..., "caption": ... or "captions": [...]}.

A line with a "mask", the file of a label map, needs no caption.
"""

import dataclasses
import json
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gen_jax.common import files, names
from gen_jax.common.errors import UserError

FILE = "captions.jsonl"


@dataclasses.dataclass(frozen=True)
class Captioned:
    """One line of the file.

    Attributes:
      captions: one or more, without surrounding blanks; none if the line has a mask alone.
      attributes: every other key of the line.
      line: its number, from 1.
    """

    captions: tuple[str, ...]
    attributes: dict[str, Any]
    line: int


def _captions_of(values: dict[str, Any], where: str) -> tuple[str, ...]:
    if "caption" in values and "captions" in values:
        raise UserError(f'{where}: has both "caption" and "captions"; keep one of them')
    if "caption" in values:
        found = [values.pop("caption")]
    elif "captions" in values:
        found = values.pop("captions")
        if not isinstance(found, list):
            raise UserError(f'{where}: "captions" must be a list of strings')
    elif "mask" in values:
        return ()
    else:
        raise UserError(f'{where}: has neither "caption" (a string) nor "captions" (a list)')
    for text in found:
        if not isinstance(text, str):
            raise UserError(f"{where}: a caption must be a string, this is {json.dumps(text)}")
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            raise UserError(f"{where}: a caption holds half of a surrogate pair; mend its encoding")
    kept = tuple(text.strip() for text in found if text.strip())
    if not kept:
        raise UserError(f"{where}: its caption is empty; write one or leave the line out")
    return kept


@dataclasses.dataclass(frozen=True)
class Line(Captioned):
    """One line by itself, with the file that it names ("/" between folders)."""

    file: str


def lines(path: str | pathlib.Path, data: bytes | None = None) -> Iterator[Line]:
    """Reads and checks a captions.jsonl, one line at a time.

    Lines of blanks are skipped, and lines with a reason under "rejected", which `prepare` writes
    for captions of a model that are unfit for training.

    Args:
      path: The file, UTF-8; its name if `data` is given.
      data: Content of the file, if it is a member of an archive.

    Raises:
      UserError: A line is wrong; the message names it and says what was expected.
    """
    if data is None:
        path = pathlib.Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    found = data.split(b"\n")
    if files.is_lfs_pointer(found[0]):
        raise UserError(f"{path}: is a git-lfs pointer, not the file: run `git lfs pull`")
    for number, raw in enumerate(found, 1):
        where = f"{path} line {number}"
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise UserError(f"{where}: is not UTF-8; save the file with this encoding") from None
        if text and (line := _line(text, where, number)):
            yield line


def _line(text: str, where: str, number: int) -> Line | None:
    try:
        values = json.loads(text)
    except ValueError as error:
        reason = getattr(error, "msg", str(error))
        raise UserError(f"{where}: is not JSON ({reason})") from None
    if not isinstance(values, dict):
        raise UserError(f'{where}: expected an object such as {{"file": ..., "caption": ...}}')
    if values.get("rejected"):
        return None
    file = values.pop("file", None)
    if not isinstance(file, str) or not file:
        raise UserError(f'{where}: "file" must name an image, relative to this folder')
    name = pathlib.PurePosixPath(file.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f'{where}: "file" must be relative and inside this folder, got {file}')
    if "mask" in values:
        values["mask"] = _mask_of(values["mask"], where)
    return Line(_captions_of(values, where), values, number, str(name))


def _mask_of(mask: Any, where: str) -> str:
    """Returns the checked name of a mask."""
    name = pathlib.PurePosixPath(mask.replace("\\", "/")) if isinstance(mask, str) else None
    if not mask or name is None or name.is_absolute() or ".." in name.parts:
        raise UserError(f'{where}: "mask" must name a file inside this folder, got {mask!r}')
    return str(name)


def read(path: str | pathlib.Path, data: bytes | None = None) -> dict[str, Captioned]:
    """Reads and checks a captions.jsonl.

    A file named on several lines gets the captions of all of them, and the attributes of the last.

    Args:
      path: The file, UTF-8; its name if `data` is given.
      data: Content of the file, if it is a member of an archive.

    Returns:
      file name (with "/", relative to the folder of images) -> Captioned.

    Raises:
      UserError: a line is wrong; the message names it and says what was expected.
    """
    result: dict[str, Captioned] = {}
    for line in lines(path, data):
        _add(result, line.file, line)
    return result


def match(
    captioned: Mapping[str, Captioned], files: Iterable[str]
) -> tuple[dict[str, Captioned], dict[str, Captioned]]:
    """Finds the file that each name in a captions.jsonl means.

    A name means the file of exactly this name, or else the one file whose name has the same normal
    form: macOS stores decomposed letters, and most editors write composed ones.

    Args:
      captioned: What `read` returns.
      files: Names of the files that there are, with "/" between folders.

    Returns:
      Captions by the name of the file, and those whose file is not there.
    """
    there = set(files)
    by_form: dict[str, list[str]] = defaultdict(list)
    for file in there:
        by_form[names.composed(file)].append(file)
    matched: dict[str, Captioned] = {}
    missing: dict[str, Captioned] = {}
    for name, entry in captioned.items():
        alike = [name] if name in there else by_form.get(names.composed(name), ())
        if len(alike) == 1:
            _add(matched, alike[0], entry)
        else:
            missing[name] = entry
    return matched, missing


def _add(result: dict[str, Captioned], file: str, entry: Captioned) -> None:
    """Adds captions to those that a file has already; the later attributes stay."""
    found, earlier = entry.captions, result.get(file)
    if earlier is not None:
        found = tuple(dict.fromkeys(earlier.captions + found))
    result[file] = Captioned(found, entry.attributes, entry.line)
