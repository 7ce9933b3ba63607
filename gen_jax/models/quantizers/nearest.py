"""Nearest codes by matrix products, in blocks of codes, so that memory stays bounded."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_PRECISION = jax.lax.Precision.HIGHEST  # TF32 would choose other codes than float32


def _blocks(codebook: jax.Array, block: int) -> tuple[jax.Array, int]:
    """`[n, block, z]`, filled up, and how many codes there are."""
    count, dim = codebook.shape
    block = min(block, count)
    missing = -count % block
    filled = jnp.concatenate([codebook, jnp.zeros((missing, dim), codebook.dtype)])
    return filled.reshape(-1, block, dim), count


def nearest_code(
    z: Float[Array, "n z"], codebook: Float[Array, "k z"], block: int = 4096
) -> Int[Array, "n"]:
    """Index of the code with the least Euclidean distance, the first of equals.

    |z - e|^2 = |z|^2 - 2 z.e + |e|^2, whose first term decides nothing.

    Args:
      z: latents.
      codebook: a code a row.
      block: codes that distances are held of at one time: `[n, block]` floats.
    """
    blocks, count = _blocks(codebook, block)
    size = blocks.shape[1]

    def one(best, inputs):
        least, index = best
        start, codes = inputs
        distance = (codes * codes).sum(-1)[None] - 2.0 * jnp.dot(z, codes.T, precision=_PRECISION)
        real = start + jnp.arange(size) < count
        distance = jnp.where(real[None], distance, jnp.inf)
        here = distance.argmin(-1).astype(jnp.int32)
        value = jnp.take_along_axis(distance, here[:, None], axis=-1)[:, 0]
        closer = value < least
        return (jnp.where(closer, value, least), jnp.where(closer, start + here, index)), None

    # Derived from z, so that they are sharded as it is.
    start = (jnp.full_like(z[:, 0], jnp.inf), jnp.zeros_like(z[:, 0], jnp.int32))
    starts = jnp.arange(len(blocks), dtype=jnp.int32) * size
    if len(blocks) == 1:
        return one(start, (starts[0], blocks[0]))[0][1]
    return jax.lax.scan(one, start, (starts, blocks))[0][1]


def sums_by_code(
    z: Float[Array, "n z"], codes: Int[Array, "n"], num_codes: int, block: int = 4096
) -> tuple[Float[Array, " k"], Float[Array, "k z"]]:
    """How many latents each code has, and their sum.

    Matrix products and no scattering, whose order of addition an accelerator leaves open: a
    resumed run is to repeat itself to the bit. Over a sharded batch the sums are the whole batch's.

    Args:
      z: latents.
      codes: of each.
      num_codes: rows of the result.
      block: codes at one time.
    """
    size = min(block, num_codes)
    count = -(-num_codes // size)

    def one(start):
        mine = (codes[:, None] == start + jnp.arange(size)[None]).astype(jnp.float32)
        return mine.sum(0), jnp.dot(mine.T, z, precision=_PRECISION)

    if count == 1:
        return one(0)
    _, (counts, sums) = jax.lax.scan(
        lambda _, start: (None, one(start)), None, jnp.arange(count) * size
    )
    return counts.reshape(-1)[:num_codes], sums.reshape(-1, z.shape[-1])[:num_codes]


def k_means(
    z: Float[Array, "n z"], num_codes: int, rng: jax.Array, iterations: int = 10, block: int = 4096
) -> tuple[Float[Array, "k z"], Float[Array, " k"]]:
    """Lloyd's iterations from random latents; a cell without any keeps its centre.

    With fewer latents than codes some start at the same place, and are told apart later.

    Returns:
      The centres, and how many latents each has.
    """
    first = z[jax.random.permutation(rng, len(z))[jnp.arange(num_codes) % len(z)]]

    def step(carry, _):
        centres, _ = carry
        counts, sums = sums_by_code(z, nearest_code(z, centres, block), num_codes, block)
        mean = sums / jnp.maximum(counts, 1.0)[:, None]
        return (jnp.where(counts[:, None] > 0, mean, centres), counts), None

    start = (first, jnp.zeros((num_codes,), jnp.float32))
    return jax.lax.scan(step, start, None, length=iterations)[0]
