"""Distances between all rows of two sets."""

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float


def squared(x: Float[Array, "*s n c"], y: Float[Array, "*s m c"]) -> Float[Array, "*s n m"]:
    """Squared Euclidean distances; rounding may leave them a little below zero.

    In full float32 on every device: TF32 would leave little of a difference of large numbers.
    """
    norms = jnp.square(x).sum(-1)[..., None] + jnp.square(y).sum(-1)[..., None, :]
    return norms - 2.0 * jnp.matmul(x, y.swapaxes(-1, -2), precision=Precision.HIGHEST)
