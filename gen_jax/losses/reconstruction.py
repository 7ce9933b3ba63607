"""Distances between an image and its reconstruction, one number a sample, in float32."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def _mean(x):
    return x.reshape(x.shape[0], -1).mean(axis=1)


def _difference(x, y):
    return x.astype(jnp.float32) - y.astype(jnp.float32)


def l1(x: Float[Array, "b ..."], y: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """Mean absolute error."""
    return _mean(jnp.abs(_difference(x, y)))


def l2(x: Float[Array, "b ..."], y: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """Mean squared error."""
    return _mean(_difference(x, y) ** 2)


def charbonnier(
    x: Float[Array, "b ..."], y: Float[Array, "b ..."], eps: float = 1e-3
) -> Float[Array, "b"]:
    """Mean of sqrt((x - y)^2 + eps^2), a smooth absolute error (arXiv 1710.01992).

    Args:
        x: images.
        y: what they are compared with.
        eps: where it turns from a parabola to a line, in the images' units; also
            its smallest value.
    """
    return _mean(jnp.sqrt(_difference(x, y) ** 2 + eps**2))


def kl_to_standard_normal(
    mean: Float[Array, "b ..."], logvar: Float[Array, "b ..."]
) -> Float[Array, "b"]:
    """KL divergence of N(mean, exp(logvar)) to N(0, 1) in nats, summed over a sample.

    Equation 10 of arXiv 1312.6114, for a diagonal covariance.
    """
    mean, logvar = mean.astype(jnp.float32), logvar.astype(jnp.float32)
    # expm1, because exp(v) - 1 - v cancels where v is near 0.
    kl = 0.5 * (mean**2 + jnp.expm1(logvar) - logvar)
    return kl.reshape(kl.shape[0], -1).sum(axis=1)
