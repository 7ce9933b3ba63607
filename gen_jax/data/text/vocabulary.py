"""Files with vocabularies of published tokenizers: found, read, and refused by name."""

import gzip
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import tokenizers

from gen_jax.common.errors import UserError


def find(where: str | os.PathLike, names: Sequence[str]) -> pathlib.Path:
    """The vocabulary that a user names, or that lies beside a model.

    Args:
      where: a file; or a folder with one of `names` in it, in a folder `tokenizer` inside it, or
        in one beside it, as in the layout of diffusers.
      names: names of files, the preferred first.

    Raises:
      UserError: there is none; the message says what was looked for.
    """
    path = pathlib.Path(where)
    if path.is_file():
        return path
    for folder in (path, path / "tokenizer", path.parent / "tokenizer"):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    what = "holds no vocabulary" if path.is_dir() else "no such file or folder"
    raise UserError(
        f"{where}: {what}; expected a folder with {' or '.join(names)}, or such a file itself"
    )


def read_text(path: str | os.PathLike) -> str:
    """A text file in UTF-8, unpacked where its name ends in .gz.

    Raises:
      UserError: it is not there or is not such a file.
    """
    try:
        data = pathlib.Path(path).read_bytes()
        return (gzip.decompress(data) if str(path).endswith(".gz") else data).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text in UTF-8; get the file again") from None
    except (EOFError, gzip.BadGzipFile, gzip.zlib.error):
        raise UserError(f"{path}: damaged, cannot be unpacked; get the file again") from None
    except OSError as error:
        raise UserError(f"{path}: no tokenizer here ({error.strerror})") from None


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object; UserError where it is none."""
    try:
        parsed = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: is not a tokenizer's JSON ({str(error)[:80]})") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{path}: is not a tokenizer's JSON (no object)")
    return parsed


def read_model(path: str | os.PathLike) -> tokenizers.Tokenizer:
    """A tokenizer.json, without the lengths that it may pad and cut to by itself."""
    text = read_text(path)
    try:
        model = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise UserError(f"{path}: is not a tokenizer's JSON ({str(error)[:80]})") from None
    model.no_padding()
    model.no_truncation()
    return model
