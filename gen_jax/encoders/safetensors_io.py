"""Reading and writing safetensors files, byte for byte.

The file format (https://github.com/huggingface/safetensors): eight bytes with the length of
the header, little endian; the header, JSON; the tensors' bytes at the header's offsets.
Ours, because a faithful save needs the header as it was, and reads need no torch for bf16.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping
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
        entries = [
            Entry(name, _DTYPES[t["dtype"]], tuple(t["shape"]), *t["data_offsets"])
            for name, t in table.items()
        ]
    except KeyError as e:
        raise UserError(
            f"{path}: unknown tensor type or field {e}: expected {', '.join(_DTYPES)}"
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: its header is no safetensors header: get it again") from None
    entries.sort(key=lambda e: (e.start, e.stop))
    for e in entries:
        if e.stop - e.start != e.dtype.itemsize * int(np.prod(e.shape, dtype=np.int64)):
            raise UserError(f"{path}: tensor {e.name} has offsets that do not fit its shape")
    return entries, metadata


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


@contextlib.contextmanager
def replacing(folder: pathlib.Path, names: Iterable[str]):
    """Yields a folder to write `names` into; on success they appear in `folder` at once.

    A new folder appears whole by one rename. In a folder that exists each file is replaced
    by a rename, in the order of `names`. After an error nothing is left and nothing changed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.parent / f".{folder.name}"
    temporary = files.with_ending(hidden, f".tmp-{os.getpid()}-{time.time_ns()}")
    temporary.mkdir()
    try:
        yield temporary
        for name in names:
            with open(temporary / name, "rb") as file:
                os.fsync(file.fileno())
        if folder.exists():
            for name in names:
                os.replace(temporary / name, folder / name)
        else:
            os.rename(temporary, folder)
    finally:
        if temporary.exists():
            for leftover in temporary.iterdir():
                leftover.unlink()
            temporary.rmdir()
