"""What every autoencoder here has in common, and the scaling of its latents.

A first stage has the methods `encode(x) -> (mean, logvar)` and `decode(z) -> x` on images
in [-1, 1], NHWC, and the attributes `scaling_factor`, `shift_factor` (or None),
`latent_channels` and `downscale_factor`. `encode` and `decode` speak raw latents; a
diffusion model sees scaled ones, of about zero mean and unit variance.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt


@runtime_checkable
class FirstStage(Protocol):
    """The contract, for annotations; linen modules meet it by having the attributes."""

    latent_channels: int
    scaling_factor: float
    shift_factor: float | None
    downscale_factor: int

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]: ...

    def decode(self, z: jax.Array) -> jax.Array: ...


def sample_latents(
    rng: Key[Array, ""] | UInt[Array, "2"],
    mean: Float[Array, "b h w z"],
    logvar: Float[Array, "b h w z"],
) -> Float[Array, "b h w z"]:
    """A draw from the diagonal Gaussian that `encode` returned."""
    return mean + jnp.exp(0.5 * logvar) * jax.random.normal(rng, mean.shape, mean.dtype)


def scale_latents(model: FirstStage, z: Float[Array, "b h w z"]) -> Float[Array, "b h w z"]:
    """Raw latents to those that a diffusion model sees: (z - shift) * scale."""
    return (z - (model.shift_factor or 0.0)) * model.scaling_factor


def unscale_latents(model: FirstStage, z: Float[Array, "b h w z"]) -> Float[Array, "b h w z"]:
    """Inverse of `scale_latents`: z / scale + shift."""
    return z / model.scaling_factor + (model.shift_factor or 0.0)
