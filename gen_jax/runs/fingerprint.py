"""A fingerprint of every array of a state, the same on any number of devices and in NumPy.

A checkpoint contains the fingerprints of what was saved. Whoever reads it computes them again and
compares. Each 32-bit word of an array is mixed with its position by a bijection, and the results
are added modulo 2^32. Integer sums do not depend on their order, so the fingerprint does not
depend on how the array is sharded. One changed word always changes the sum, because the mixing is
one-to-one. Two different mixings give 64 bits.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.parallel.sharding import path_name

_SALTS = (0x9E3779B9, 0x7F4A7C15)
_CHUNK = 2**18  # words that NumPy mixes at a time: temporaries stay in the cache of a core


def fingerprint(tree: Any) -> dict[str, str]:
    """Computes the fingerprint of each array of a tree.

    Args:
      tree: A tree whose leaves are all JAX arrays, sharded in any way, or all NumPy arrays.

    Returns:
      Path of the array -> its dtype, its shape and 16 hexadecimal digits.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    # One small program per shape compiles faster than one large program per state.
    sums = jax.device_get(
        [_sums_numpy(x) if isinstance(x, np.ndarray) else _sums_jax(x) for _, x in leaves]
    )
    return {
        path_name(path): f"{x.dtype}{list(x.shape)} {int(a):08x}{int(b):08x}"
        for (path, x), (a, b) in zip(leaves, sums)
    }


def _mix(x):
    """Scrambles 32-bit words one-to-one (the finalizer of MurmurHash3)."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _words(x: jax.Array) -> jax.Array:
    """Returns the array's bits as uint32 words of the array's own shape, sharded like the array."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = x.dtype.itemsize * 8
    if bits == 64:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    unsigned = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bits]
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


@jax.jit
def _sums_jax(x: jax.Array) -> jax.Array:
    words = _words(x)
    # The position as a mixed-radix number of iotas: no reshape, so no array is gathered.
    position = jnp.zeros(words.shape, jnp.uint32)
    for dim, size in enumerate(words.shape):
        position = position * jnp.uint32(size) + jax.lax.broadcasted_iota(
            jnp.uint32, words.shape, dim
        )
    sums = [
        jnp.sum(_mix(words ^ _mix(position + jnp.uint32(salt))), dtype=jnp.uint32)
        for salt in _SALTS
    ]
    return jnp.stack(sums)


def _sums_numpy(x: np.ndarray) -> np.ndarray:
    """Computes what `_sums_jax` does, of an array in memory."""
    flat = np.ascontiguousarray(x).reshape(-1)
    flat = flat.view({1: np.uint8, 2: np.uint16}.get(flat.itemsize, np.uint32))
    sums = np.zeros(len(_SALTS), np.uint32)
    for start in range(0, flat.size, _CHUNK):
        words = flat[start : start + _CHUNK].astype(np.uint32)
        position = np.arange(words.size, dtype=np.uint32) + np.uint32(start % 2**32)
        for index, salt in enumerate(_SALTS):
            mixed = _mix(words ^ _mix(position + np.uint32(salt)))
            sums[index : index + 1] += np.sum(mixed, dtype=np.uint32)
    return sums
