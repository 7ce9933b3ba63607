"""A tree of arrays as one safetensors file, keys being paths."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from gen_jax.common import checksum, files
from gen_jax.common.safetensors_io import load_safetensors
from gen_jax.models import weight_storage
from gen_jax.models.weight_storage import Int8

_SCALE = ":scale"


def flatten(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """`{"a": {"b": x}}` to `{"a/b": x}`."""
    out = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            out |= flatten(value, f"{name}/")
        else:
            out[name] = np.asarray(value)
    return out


def unflatten(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def save(path: pathlib.Path, tree: Any, metadata: dict[str, str] | None = None) -> None:
    """Writes the whole file or nothing."""
    from safetensors.numpy import save as to_bytes

    # Not `ascontiguousarray`, which gives a scalar a dimension.
    flat = {k: np.asarray(v, order="C") for k, v in sorted(flatten(tree).items())}
    files.write_bytes(path, to_bytes(flat, metadata=metadata))


def rounded(tree: Any) -> dict[str, Any]:
    """Returns a tree for `save` whose kernels and tables are int8, beside their scales.

    A kernel of 8 bits per number has a scale per output channel, a table of embeddings has one per
    row. `load` multiplies them again. Everything else stays as it is.
    """
    out = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out[key] = rounded(value)
        elif isinstance(stored := weight_storage.stored({key: value}, "int8")[key], Int8):
            out[key], out[f"{key}{_SCALE}"] = np.asarray(stored.values), np.asarray(stored.scale)
        else:
            out[key] = value
    return out


def load(path: pathlib.Path) -> dict[str, Any]:
    """Reads a file that `save` wrote; half-precision and `rounded` weights become float32.

    Raises:
      UserError: It is missing or damaged, or not what the manifest.json beside it says.
    """
    flat = load_safetensors(path)
    checksum.check(path)
    # Copies, because the arrays of `load_safetensors` are read-only and stay on disk.
    copies = {
        k: np.array(v, np.float32 if v.dtype == np.float16 else None) for k, v in flat.items()
    }
    for name in [name for name in copies if name.endswith(_SCALE)]:
        scale = copies.pop(name)
        values = name.removesuffix(_SCALE)
        copies[values] = copies[values].astype(np.float32) * scale
    return unflatten(copies)


def digest(tree: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes."""
    sha = hashlib.sha256()
    for name, value in sorted(flatten(tree).items()):
        sha.update(f"{name} {value.dtype} {value.shape}\n".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()
