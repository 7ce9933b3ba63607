"""Implicit maximum likelihood (arXiv 1809.09087): every real image pulls the nearest sample.

With a rejection radius, samples that some real image has already within it do not compete
(RS-IMLE, arXiv 2409.17439): chosen latents then look more like those drawn at test time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gen_jax.losses.distances import squared


def nearest(
    real: Float[Array, "n c"], pool: Float[Array, "m c"], radius: float | Float[Array, ""] = 0.0
) -> tuple[Int[Array, "n"], Float[Array, "n"]]:
    """The sample of a pool that each real image pulls.

    Args:
      real: features of real images.
      pool: features of samples.
      radius: samples nearer than this to any real image are out of the choice, unless all are.

    Returns:
      indices into the pool, and the distances to them.
    """
    square = jnp.maximum(squared(real, pool), 0.0)
    taken = square.min(0) < jnp.square(radius)
    taken &= ~taken.all()
    chosen = jnp.argmin(jnp.where(taken[None], jnp.inf, square), -1)
    return chosen, jnp.sqrt(jnp.take_along_axis(square, chosen[:, None], 1)[:, 0])


def mean_nearest_distance(x: Float[Array, "n c"]) -> Float[Array, ""]:
    """Mean distance of rows to their nearest other row: a scale for `radius`."""
    square = jnp.maximum(squared(x, x), 0.0)
    square = jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, square)
    return jnp.sqrt(jax.lax.stop_gradient(square.min(-1))).mean()
