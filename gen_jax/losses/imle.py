"""Implicit maximum likelihood (arXiv 1809.09087): every real image pulls the nearest sample.

With a rejection radius, samples that some real image has already within it do not compete
(RS-IMLE, arXiv 2409.17439): chosen latents then look more like those drawn at test time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gen_jax.losses.distances import squared


def nearest(
    real: Float[Array, "n c"],
    pool: Float[Array, "m c"],
    radius: float | Float[Array, ""] = 0.0,
    distinct: bool = False,
) -> tuple[Int[Array, "n"], Float[Array, "n"]]:
    """The sample of a pool that each real image pulls.

    Args:
      real: features of real images.
      pool: features of samples.
      radius: samples nearer than this to any real image are out of the choice, unless all are.
      distinct: one image after the other takes the nearest sample that is left, so that none is
        pulled to the mean of many images; a pool of n at least.

    Returns:
      indices into the pool, and the distances to them.
    """
    if distinct and len(pool) < len(real):
        raise ValueError(f"{len(pool)} samples cannot be distinct for {len(real)} images")
    square = jnp.maximum(squared(real, pool), 0.0)
    taken = square.min(0) < jnp.square(radius)
    taken &= ~taken.all()
    if distinct:
        taken &= (~taken).sum() >= len(real)  # or there are too few that may be chosen
        chosen = _one_after_the_other(jnp.where(taken[None], jnp.inf, square))
    else:
        chosen = jnp.argmin(jnp.where(taken[None], jnp.inf, square), -1)
    return chosen, jnp.sqrt(jnp.take_along_axis(square, chosen[:, None], 1)[:, 0])


def _one_after_the_other(square):
    def take(free, row):
        best = jnp.argmin(jnp.where(free, row, jnp.inf))
        return free.at[best].set(False), best

    return jax.lax.scan(take, jnp.ones(square.shape[1], bool), square)[1]


def mean_nearest_distance(x: Float[Array, "n c"]) -> Float[Array, ""]:
    """Mean distance of rows to their nearest other row: a scale for `radius`."""
    square = jnp.maximum(squared(x, x), 0.0)
    square = jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, square)
    return jnp.sqrt(jax.lax.stop_gradient(square.min(-1))).mean()
