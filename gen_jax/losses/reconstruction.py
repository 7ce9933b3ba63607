"""Distances between an image and its reconstruction, one number a sample."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def _per_sample(x):
    return x.reshape(x.shape[0], -1).mean(axis=1)


def l1(x: Float[Array, "b ..."], y: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """Mean absolute error."""
    return _per_sample(jnp.abs(x - y))


def l2(x: Float[Array, "b ..."], y: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """Mean squared error."""
    return _per_sample((x - y) ** 2)


def charbonnier(
    x: Float[Array, "b ..."], y: Float[Array, "b ..."], eps: float = 1e-3
) -> Float[Array, "b"]:
    """Mean of sqrt((x - y)^2 + eps^2), a smooth absolute error (arXiv 1710.01992)."""
    return _per_sample(jnp.sqrt((x - y) ** 2 + eps**2))


def kl_to_standard_normal(
    mean: Float[Array, "b ..."], logvar: Float[Array, "b ..."]
) -> Float[Array, "b"]:
    """KL divergence of N(mean, exp(logvar)) to N(0, 1) in nats, summed over a sample."""
    kl = 0.5 * (mean**2 + jnp.exp(logvar) - 1.0 - logvar)
    return kl.reshape(kl.shape[0], -1).sum(axis=1)
