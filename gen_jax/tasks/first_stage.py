"""The autoencoder that a latent model works behind: its module, and its frozen parameters."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common import pixels
from gen_jax.common.build import by_name
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.models.autoencoder_patch import AutoencoderPatch
from gen_jax.models.autoencoder_tiny import AutoencoderTiny

AUTOENCODERS = {"kl": AutoencoderKL, "patch": AutoencoderPatch, "tiny": AutoencoderTiny}


def build_autoencoder(config: Mapping[str, Any], where: str = "config.task.autoencoder"):
    """The module that `config["name"]` (`kl`, `patch` or `tiny`) names."""
    return by_name(AUTOENCODERS, config, where)


def latent_shape(autoencoder: nn.Module, image_size: int) -> tuple[int, int, int]:
    """Returns height, width and channels of the latent of a square image."""
    mean, _ = jax.eval_shape(
        lambda: autoencoder.init_with_output(
            jax.random.key(0), jnp.zeros((1, image_size, image_size, 3)), method="encode"
        )[0]
    )
    return tuple(mean.shape[1:])


def to_images(x: Float[Array, "b h w c"]) -> dict[str, jax.Array]:
    """Returns "image", the pixels of [-1, 1], and "finite" `[b]`, whether an image has no NaN or
    Inf: as pixels these would be black or white.
    """
    return {"image": pixels.from_signed(x), "finite": jnp.isfinite(x).all(axis=(1, 2, 3))}


def encode(
    module: nn.Module,
    frozen: Mapping[str, Any],
    x: Float[Array, "b h w c"],
    rng: jax.Array | None,
    noise: Float[Array, "b hl wl z"] | None = None,
) -> Float[Array, "b hl wl z"]:
    """Images in [-1, 1] to latents of about unit variance.

    Args:
      module: an autoencoder.
      frozen: its `{"params", "latent_mean", "latent_std"}`.
      x: images.
      rng: draws from the posterior; None takes its mean.
      noise: Noise of the draw from the posterior, instead of `rng`.
    """
    mean, logvar = module.apply({"params": frozen["params"]}, x, method="encode")
    if rng is not None and noise is None:
        noise = jax.random.normal(rng, mean.shape)
    if noise is not None:
        mean = mean + jnp.exp(0.5 * logvar) * noise
    return standardise(mean, frozen)


def standardise(z: Float[Array, "b hl wl z"], frozen: Mapping[str, Any]):
    """Latents as the autoencoder gives them, to about unit variance."""
    return (z - frozen["latent_mean"][None, None, None]) / frozen["latent_std"][None, None, None]


def decode(
    module: nn.Module, frozen: Mapping[str, Any], z: Float[Array, "b hl wl z"]
) -> Float[Array, "b h w c"]:
    """Latents of about unit variance to images in about [-1, 1]."""
    raw = z * frozen["latent_std"][None, None, None] + frozen["latent_mean"][None, None, None]
    return module.apply({"params": frozen["params"]}, raw, method="decode")
