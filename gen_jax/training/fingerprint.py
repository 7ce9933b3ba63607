"""A fingerprint of every array of a state, the same on any number of devices.

A checkpoint carries the fingerprints of what was saved; what is read back must have the same.
Each 32-bit word of an array is mixed with its position by a bijection and the results are added
modulo 2^32. Integer sums do not depend on their order, so neither does the fingerprint on how
the array is split; one changed word always changes the sum, because the mixing is one-to-one.
Two different mixings give 64 bits.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gen_jax.parallel.sharding import path_name


def _words(x: jax.Array) -> jax.Array:
    """The array's bits as uint32 words of the array's own shape, split like the array."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = x.dtype.itemsize * 8
    if bits == 64:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    unsigned = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bits]
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """A one-to-one scrambling of 32-bit words (the finaliser of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


@jax.jit
def _one(x: jax.Array) -> jax.Array:
    words = _words(x)
    # The position as a mixed-radix number of iotas: no reshape, so no array is gathered.
    position = jnp.zeros(words.shape, jnp.uint32)
    for dim, size in enumerate(words.shape):
        position = position * jnp.uint32(size) + jax.lax.broadcasted_iota(
            jnp.uint32, words.shape, dim
        )
    sums = [
        jnp.sum(_mix(words ^ _mix(position + jnp.uint32(salt))), dtype=jnp.uint32)
        for salt in (0x9E3779B9, 0x7F4A7C15)
    ]
    return jnp.stack(sums)


def fingerprint(tree: Any) -> dict[str, str]:
    """Path -> 16 hexadecimal digits, for each leaf of a tree of arrays."""
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree))
    # One small program a shape compiles faster than one large program a state.
    sums = jax.device_get([_one(x) for x in leaves])
    return {path_name(p): f"{int(a):08x}{int(b):08x}" for p, (a, b) in zip(paths, sums)}
