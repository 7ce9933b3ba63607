"""A tree of arrays as one safetensors file, keys being paths."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from gen_jax.common import checksum, files
from gen_jax.common.safetensors_io import load_safetensors


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


def load(path: pathlib.Path) -> dict[str, Any]:
    """Reads a file that `save` wrote; half-precision weights become float32.

    Raises:
      UserError: It is missing or damaged, or not what the manifest.json beside it says.
    """
    flat = load_safetensors(path)
    checksum.check(path)
    # Copies, because the arrays of `load_safetensors` are read-only and stay on disk.
    return unflatten(
        {k: np.array(v, np.float32 if v.dtype == np.float16 else None) for k, v in flat.items()}
    )


def digest(tree: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes."""
    sha = hashlib.sha256()
    for name, value in sorted(flatten(tree).items()):
        sha.update(f"{name} {value.dtype} {value.shape}\n".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()
