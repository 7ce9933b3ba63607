"""Inputs of a denoising UNet: latents in patches, with a layout of the text and coordinates."""

import math
from collections.abc import Mapping
from typing import Any

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.common.errors import UserError


def unet_config(
    values: Mapping[str, Any], latent_shape: tuple[int, int, int], text_width: int
) -> dict[str, Any]:
    """Returns `config.task.unet` with what follows from the latents and the text encoder.

    Args:
      values: `config.task`.
      latent_shape: Height, width and channels of a latent.
      text_width: Size of a state of the text encoder.

    Raises:
      UserError: A size does not fit.
    """
    patch = values.get("patch_size", 1)
    if not isinstance(patch, int) or patch < 1 or latent_shape[0] % patch:
        raise UserError(
            f"config.task.patch_size={patch!r} must divide the latent's side {latent_shape[0]}"
        )
    channels = latent_shape[2] * patch**2
    extra = 2 * bool(values.get("use_coordinates", False)) + values.get("layout_channels", 0)
    unet = {
        "sample_size": latent_shape[0] // patch,
        "in_channels": channels + extra,
        "out_channels": channels,
        "cross_attention_dim": text_width,
        **values["unet"],
    }
    if unet.get("class_embed_type") is not None:
        unet.setdefault("projection_class_embeddings_input_dim", text_width)
    if unet["cross_attention_dim"] != text_width:
        raise UserError(
            f"config.task.unet.cross_attention_dim={unet['cross_attention_dim']} must be "
            f"the text encoder's hidden_size={text_width}"
        )
    return unet


def pooled(states: Float[Array, "b n d"], mask: Bool[Array, "b n"]) -> Float[Array, "b d"]:
    """Returns the sum of token states over the root of their number: of one size at any length.

    Args:
      states: Token states.
      mask: True at real tokens.
    """
    total = (states * mask[:, :, None]).sum(axis=1)
    return total / jnp.sqrt(jnp.maximum(mask.sum(axis=1, keepdims=True), 1))


def patched(
    x_t: Float[Array, "b h w c"],
    patch_size: int,
    use_coordinates: bool,
    layout: Float[Array, "b side side k"] | None = None,
) -> Float[Array, "b hp wp d"]:
    """Returns latents as the UNet takes them.

    Args:
      x_t: Latents.
      patch_size: Side of the squares of latents that become one position.
      use_coordinates: Whether two channels with the row and column of each position are added.
      layout: Map of the text whose channels are added, or None. It is resized bilinearly to
        positions of another number than those of training.
    """
    p = patch_size
    x = einops.rearrange(x_t, "b (h p) (w q) c -> b h w (p q c)", p=p, q=p)
    if layout is not None:
        shape = (*x.shape[:3], layout.shape[-1])
        if layout.shape != shape:
            layout = jax.image.resize(layout, shape, "bilinear")
        x = jnp.concatenate([x, layout], axis=-1)
    if not use_coordinates:
        return x
    # Of unit variance, as the latents are.
    rows, columns = (math.sqrt(3) * jnp.linspace(-1, 1, side) for side in x.shape[1:3])
    grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return jnp.concatenate([x, jnp.broadcast_to(grid, (len(x), *grid.shape))], axis=-1)
