"""torch-layout weights <-> Flax parameters: names by rule and table, kernels transposed.

A Flax path becomes a torch key by three rules: `name_3` is `name.3` (an entry of a list),
`kernel`, `scale` and `embedding` are `weight`, and the parts are joined by dots. What a
file spells otherwise stands in the `Port` of that kind of file.

Convolution kernels are HWIO here and OIHW there, dense kernels (in, out) and (out, in).
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.common.safetensors_io import load_safetensors

__all__ = [
    "DIFFUSERS",
    "Port",
    "flat_params",
    "flax_from_torch",
    "load_safetensors",
    "torch_from_flax",
    "torch_views",
]

_WEIGHT_LEAVES = ("kernel", "scale", "embedding")
_ALIGNMENT = 64  # bytes, from which XLA takes an array on a CPU as it is
_SHOWN = 6  # names in an error message before "and N more"


@dataclasses.dataclass(frozen=True)
class Port:
    """How the files of one family spell what the rules do not give.

    Attributes:
      keep: parts of a path that end in _N and are no entry of a list.
      rename: (regex, replacement) pairs applied in order to the key that the rules give;
        they lead from our names to the file's.
      aliases: (regex, replacement) pairs applied in order to a file's keys before they are
        looked up: other spellings of the same tensor, such as those of older releases.
      ignore: regexes of keys in the file that are no parameters (position ids and the like).
      as_stored: regexes of keys whose tensors keep their axes whatever their leaf is called.
    """

    keep: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()
    as_stored: tuple[str, ...] = ()

    def key(self, path: tuple[str, ...]) -> str:
        """The torch key of a Flax path."""
        parts = [p if p in self.keep else re.sub(r"_(\d+)$", r".\1", p) for p in path[:-1]]
        parts.append("weight" if path[-1] in _WEIGHT_LEAVES else path[-1])
        return _substitute(".".join(parts), self.rename)

    def canonical(self, key: str) -> str:
        """The current spelling of a file's key."""
        return _substitute(key, self.aliases)

    def ignores(self, key: str) -> bool:
        """Whether the file's key is no parameter."""
        return any(re.search(r, key) for r in self.ignore)


# Old files of AutoencoderKL have the attention's names of their time.
DIFFUSERS = Port(
    keep=("linear_1", "linear_2"),
    aliases=(
        (r"\.query\.(weight|bias)$", r".to_q.\1"),
        (r"\.key\.(weight|bias)$", r".to_k.\1"),
        (r"\.value\.(weight|bias)$", r".to_v.\1"),
        (r"\.proj_attn\.(weight|bias)$", r".to_out.0.\1"),
    ),
)


def flax_from_torch(
    state_dict: Mapping[str, np.ndarray],
    params_shapes: Mapping[str, Any],
    port: Port = DIFFUSERS,
    where: str = "state dict",
    dtype: Any = np.float32,
) -> dict[str, Any]:
    """Flax parameters with the values of a torch state dict.

    Args:
      state_dict: torch key -> array.
      params_shapes: tree of what the model wants, arrays or `ShapeDtypeStruct`s, the tree
        under "params": `jax.eval_shape(module.init, ...)["params"]`.
      port: the file's spelling.
      where: file or folder to name in an error.
      dtype: of the result.

    Returns:
      A tree like `params_shapes`, of numpy arrays.

    Raises:
      UserError: names every kind of mismatch: keys missing, keys unexpected, wrong shapes.
    """
    found = {port.canonical(k): k for k in state_dict if not port.ignores(k)}
    wanted = {port.key(path): (path, leaf) for path, leaf in flat_params(params_shapes)}
    _report(
        where,
        missing=[k for k in wanted if k not in found],
        unexpected=[found[k] for k in found if k not in wanted],
    )
    params: dict[str, Any] = {}
    wrong = []
    for key, (path, leaf) in wanted.items():
        value = state_dict[found[key]]
        value = _to_flax(value, path, len(leaf.shape), _stored(port, key))
        if value.shape != tuple(leaf.shape):
            want = _to_torch_shape(leaf.shape, path, _stored(port, key))
            wrong.append(f"{found[key]} {tuple(state_dict[found[key]].shape)}, not {want}")
            continue
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = _copied(value, dtype)
    _report(where, **{"of another shape": wrong})
    return params


def _copied(value: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns a copy that a CPU device can use in place, without another copy."""
    size = value.size * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + size].view(dtype).reshape(value.shape)
    copy[...] = value
    return copy


def torch_from_flax(params: Mapping[str, Any], port: Port = DIFFUSERS) -> dict[str, np.ndarray]:
    """Torch key -> array in torch's layout, contiguous, in the parameters' dtypes.

    The inverse of `flax_from_torch`, in the current spelling of the keys.
    """
    return {k: np.ascontiguousarray(v) for k, v in torch_views(params, port).items()}


def torch_views(params: Mapping[str, Any], port: Port = DIFFUSERS) -> dict[str, np.ndarray]:
    """As `torch_from_flax`, but views of the parameters: no memory, and not contiguous."""
    state = {}
    for path, leaf in flat_params(params):
        key, value = port.key(path), np.asarray(leaf)
        state[key] = value.transpose(_torch_axes(path, value.ndim, _stored(port, key)))
    return state


def flat_params(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple]:
    """Yields path and leaf of each parameter."""
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from flat_params(node, (*path, name))
        else:
            yield (*path, name), node


def _substitute(text: str, pairs: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in pairs:
        text = re.sub(pattern, replacement, text)
    return text


def _stored(port: Port, key: str) -> bool:
    return any(re.search(r, key) for r in port.as_stored)


def _torch_axes(path: tuple[str, ...], ndim: int, as_stored: bool) -> tuple[int, ...]:
    """Axes that bring a Flax array into torch's layout: spatial axes last, (out, in) first."""
    if path[-1] != "kernel" or as_stored or ndim < 2:
        return tuple(range(ndim))
    return (ndim - 1, ndim - 2, *range(ndim - 2))


def _to_torch_shape(shape: Iterable[int], path: tuple[str, ...], as_stored: bool) -> tuple:
    shape = tuple(shape)
    return tuple(shape[a] for a in _torch_axes(path, len(shape), as_stored))


def _to_flax(value: np.ndarray, path: tuple[str, ...], ndim: int, as_stored: bool) -> np.ndarray:
    if path[-1] == "kernel" and ndim == 2 and value.ndim == 4 and value.shape[2:] == (1, 1):
        value = value[:, :, 0, 0]  # a dense layer that was stored as a 1x1 convolution
    if value.ndim != ndim:
        return value
    return value.transpose(np.argsort(_torch_axes(path, ndim, as_stored)))


def _report(where: str, **problems: list[str]) -> None:
    parts = [
        f"{len(names)} keys {what}: {_listed(names)}" for what, names in problems.items() if names
    ]
    if parts:
        raise UserError(
            f"{where}: does not fit the model: {'; '.join(parts)} "
            "(is it the weights of this architecture and size?)"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
