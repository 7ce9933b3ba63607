"""Losses of a generator and a discriminator, one number a logit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def hinge_discriminator(
    real: Float[Array, "..."], fake: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Hinge loss (arXiv 1705.02894): real logits above 1, fake ones below -1."""
    return 0.5 * (jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake))


def hinge_generator(fake: Float[Array, "..."]) -> Float[Array, "..."]:
    """The generator's side of the hinge loss."""
    return -fake


def non_saturating_discriminator(
    real: Float[Array, "..."], fake: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Logistic loss (arXiv 1406.2661)."""
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def non_saturating_generator(fake: Float[Array, "..."]) -> Float[Array, "..."]:
    """The generator's side of the logistic loss, in its non-saturating form."""
    return jax.nn.softplus(-fake)


def r1_penalty(gradients: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """Half the squared norm of the logits' gradients at real images (arXiv 1801.04406)."""
    return 0.5 * jnp.sum(gradients.reshape(gradients.shape[0], -1) ** 2, axis=1)
