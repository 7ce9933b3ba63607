"""Parameters at rest in fewer bytes, for sampling: bfloat16, or integers of 8 bits with scales.

Computing stays in the model's own dtype: `read` belongs inside `jax.jit`, where the compiler makes
the numbers anew of what is stored.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError

KINDS = ("float32", "bfloat16", "int8")
_LARGEST = 127.0
_ROUNDED = ("kernel", "embedding")


@flax.struct.dataclass
class Int8:
    """Integers, symmetric about 0, and what they are multiples of, which broadcasts to them."""

    values: Any
    scale: Any


def stored(params: Any, kind: str) -> Any:
    """Parameters as they are to be kept.

    Kernels and tables, which are nearly all bytes, are rounded: to bfloat16, or to 255 steps
    between the largest magnitude of a kernel's output channel, or a table's row, and its negative.
    Biases, norms and codebooks stay as they are.

    Args:
      params: a tree of arrays.
      kind: one of `KINDS`.

    Raises:
      UserError: none of them.
    """
    if kind not in KINDS:
        raise UserError(f"weights={kind}: expected one of {', '.join(KINDS)}")

    def leaf(path, value):
        value = jnp.asarray(value)
        name = jax.tree_util.keystr(path[-1:], simple=True)
        large = value.ndim >= 2 and name in _ROUNDED
        if kind == "float32" or not large or value.dtype != jnp.float32:
            return value
        if kind == "bfloat16":
            return value.astype(jnp.bfloat16)
        return _rounded(value, -1 if name == "embedding" else tuple(range(value.ndim - 1)))

    return jax.tree_util.tree_map_with_path(leaf, params)


def _rounded(value: jax.Array, axes: int | tuple[int, ...]) -> Int8:
    largest = jnp.abs(value).max(axes, keepdims=True)
    scale = jnp.where(largest > 0, largest / _LARGEST, 1.0)
    return Int8(jnp.round(value / scale).astype(jnp.int8), scale)


def read(params: Any) -> Any:
    """What `stored` made, as float32 again."""

    def leaf(value):
        if isinstance(value, Int8):
            return value.values.astype(jnp.float32) * value.scale
        return value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value

    return jax.tree.map(leaf, params, is_leaf=lambda v: isinstance(v, Int8))


def reading(predict: Callable[..., Any]) -> Callable[..., Any]:
    """A predict function whose variables and frozen parameters may be stored ones."""

    def run(variables, batch, rngs, frozen):
        return predict(read(variables), batch, rngs, read(frozen))

    return run


def size_of(params: Any) -> int:
    """Bytes of a tree of arrays, stored or not."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
