"""Distances between all rows of two sets."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def squared(x: Float[Array, "*s n c"], y: Float[Array, "*s m c"]) -> Float[Array, "*s n m"]:
    """Squared Euclidean distances; rounding may leave them a little below zero."""
    norms = jnp.square(x).sum(-1)[..., None] + jnp.square(y).sum(-1)[..., None, :]
    return norms - 2.0 * x @ y.swapaxes(-1, -2)
