"""Losses of a generator and a discriminator, one number a logit, and their regularisers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def hinge_discriminator(
    real: Float[Array, "..."], fake: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Half the hinge losses (arXiv 1705.02894): real logits above 1, fake ones below -1."""
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


def r1_penalty(
    logits_fn: Callable[[Array], Array], real: Float[Array, "b ..."]
) -> Float[Array, "b"]:
    """Half the squared norm of the logits' gradient at each real image (arXiv 1801.04406, eq. 9).

    Args:
        logits_fn: images [b, ...] -> logits [b, ...]; each sample's own are summed,
            and no sample's may depend on another's (batch normalisation).
        real: real images.
    """
    gradient = jax.grad(lambda x: jnp.sum(logits_fn(x).astype(jnp.float32)))(real)
    gradient = gradient.astype(jnp.float32)
    return 0.5 * jnp.sum(gradient.reshape(gradient.shape[0], -1) ** 2, axis=1)
