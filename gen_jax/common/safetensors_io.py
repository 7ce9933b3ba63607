"""Reads and writes safetensors files, byte for byte.

The file format (https://github.com/huggingface/safetensors): eight bytes with the length of
the header, little endian; the header, JSON; the tensors' bytes at the header's offsets.
Ours, because a faithful save needs the header as it was, and reads need no torch for bf16.
"""

import dataclasses
import json
import math
import operator
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from gen_jax.common import files
from gen_jax.common.errors import UserError

# In the order in which the safetensors library lays types out in a file.
_DTYPES = {
    "I64": np.dtype("int64"),
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "I32": np.dtype("int32"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype("float16"),
    "I16": np.dtype("int16"),
    "I8": np.dtype("int8"),
    "U8": np.dtype("uint8"),
    "BOOL": np.dtype("bool"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor in a file: its name, type, shape, and bytes from `start` to `stop`."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def refuse_pickle(
    path: str | os.PathLike,
    instead: str = "convert them to .safetensors (diffusers' save_pretrained writes it)",
) -> None:
    """Raises for a pickled checkpoint: unpickling runs whatever code the file holds.

    Args:
      path: any file.
      instead: what the message says to do.
    """
    if pathlib.Path(path).suffix in _PICKLES:
        raise UserError(
            f"{path}: pickled weights may run code when they are opened and are not read here: "
            f"{instead}"
        )


def read_header(path: str | os.PathLike) -> bytes:
    """The file's JSON header, unparsed."""
    refuse_pickle(path)
    files.refuse_lfs_pointer(path)
    try:
        with open(path, "rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            size = os.fstat(file.fileno()).st_size
            if len(prefix) < 8 or length > size - 8:
                raise UserError(f"{path}: not a safetensors file, or cut short: get it again")
            return file.read(length)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: expected a .safetensors file") from None


def parse_header(header: bytes, path: str | os.PathLike) -> tuple[list[Entry], dict[str, str]]:
    """Entries in the order of their bytes, and the metadata; `path` is for messages."""
    try:
        table = json.loads(header)
        metadata = table.pop("__metadata__", {})
        entries = [_entry(name, fields) for name, fields in table.items()]
    except KeyError as e:
        raise UserError(
            f"{path}: unknown tensor type or field {e}: expected {', '.join(_DTYPES)}"
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: its header is no safetensors header: get it again") from None
    entries.sort(key=lambda e: (e.start, e.stop))
    end = 0
    for e in entries:  # the format allows no gaps and no overlaps
        if e.start != end or e.stop - e.start != e.dtype.itemsize * math.prod(e.shape):
            raise UserError(f"{path}: tensor {e.name} has offsets that do not fit its shape")
        end = e.stop
    return entries, metadata


def _entry(name: str, fields: Mapping[str, Any]) -> Entry:
    """Reads a tensor's fields.

    Raises:
      KeyError: A field is missing, or its type is unknown.
      TypeError, ValueError: A field is of another kind than expected.
    """
    shape = tuple(operator.index(n) for n in fields["shape"])
    start, stop = map(operator.index, fields["data_offsets"])
    if min(shape, default=0) < 0:
        raise ValueError("a negative shape")
    return Entry(name, _DTYPES[fields["dtype"]], shape, start, stop)


def load_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Name -> array, in the stored types (bf16 as `ml_dtypes.bfloat16`), read lazily.

    The arrays are read-only views of the mapped file: a tensor costs memory once it is
    touched, and pages go again when memory is short.

    Raises:
      UserError: for a pickle, a file that is cut short or no safetensors file at all.
    """
    header = read_header(path)
    start = 8 + len(header)
    if os.path.getsize(path) == start:  # nothing to map
        return _arrays(header, np.zeros(0, np.uint8), path)
    return _arrays(header, np.memmap(path, mode="r", offset=start, dtype=np.uint8), path)


def from_bytes(content: bytes, path: str | os.PathLike) -> dict[str, np.ndarray]:
    """As `load_safetensors`, of a file that is in memory; `path` is for messages."""
    refuse_pickle(path)
    start = 8 + int.from_bytes(content[:8], "little")
    if len(content) < max(start, 8):
        raise UserError(f"{path}: not a safetensors file, or cut short: get it again")
    return _arrays(content[8:start], np.frombuffer(content, np.uint8)[start:], path)


def _arrays(header: bytes, data: np.ndarray, path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Views of `data`, the bytes behind the header."""
    entries, _ = parse_header(header, path)
    if entries and entries[-1].stop != data.size:
        raise UserError(
            f"{path}: holds {data.size} bytes of tensors where its header says "
            f"{entries[-1].stop}: the file is cut short or damaged, get it again"
        )
    return {e.name: data[e.start : e.stop].view(e.dtype).reshape(e.shape) for e in entries}


def make_header(
    specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """The header that the safetensors library would write: wide types first, then by name."""
    ranks = list(_DTYPES)
    ordered = sorted(specs, key=lambda n: (ranks.index(_CODES[np.dtype(specs[n][0])]), n))
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name in ordered:
        dtype, shape = np.dtype(specs[name][0]), specs[name][1]
        stop = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        table[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def write_safetensors(
    path: str | os.PathLike, header: bytes, tensor: Callable[[Entry], np.ndarray]
) -> None:
    """Writes `header` and, in its order, the bytes of `tensor(entry)`; not atomic by itself."""
    entries, _ = parse_header(header, path)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for entry in entries:
            array = np.asarray(tensor(entry), dtype=entry.dtype, order="C")
            if array.shape != entry.shape:
                raise ValueError(f"{entry.name}: shape {array.shape}, header {entry.shape}")
            file.write(array.reshape(-1).view(np.uint8).data)
