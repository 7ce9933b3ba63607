"""What the tasks that train vision towers share: a start, pixels as towers read them, masks."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from gen_jax.common import pixels
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.encoders.dinov2 import MEAN, STD, DINOv2
from gen_jax.encoders.patches import wave_positions


def build_parts(config: Mapping[str, Any], parts: Mapping[str, type]) -> dict[str, Any]:
    """`config.task` with what stands under the names of `parts` built.

    Raises:
      UserError: one is missing, or has a key that does not fit.
    """
    values = dict(config)
    for name, kind in parts.items():
        if name not in values:
            raise UserError(f"config.task.{name} is missing: give fields of {kind.__name__}")
        values[name] = build(kind, values[name], f"config.task.{name}")
    return values


def first_parameters(encoder: DINOv2, rng: jax.Array) -> dict:
    """Parameters to begin with."""
    params = dict(encoder.init(rng, *encoder.example_inputs())["params"])
    # Noise of 0.02, the published start, is not heard beside patches for hundreds of steps.
    side = encoder.image_size // encoder.patch_size
    params["position_embeddings"] = wave_positions(side, encoder.hidden_size)
    return params


def normalised(images: jax.Array) -> jax.Array:
    """Images [b, h, w, 3] in [0, 1] as DINOv2 towers read them."""
    return (images - jnp.asarray(MEAN)[None, None, None]) / jnp.asarray(STD)[None, None, None]


def features(encoder: DINOv2, params: Any, images: UInt8[Array, "b h w 3"]) -> dict[str, jax.Array]:
    """Returns the class token `cls` [b, c] and `patches` [b, rows, columns, c] of images."""
    out = encoder.apply({"params": params}, normalised(pixels.to_unit(images)))
    return {"cls": out["cls"], "patches": out["patches"]}


def random_masks(
    key: jax.Array, count: int, side: int, ratio: float
) -> tuple[jax.Array, jax.Array]:
    """Masks of patches that hang together: the highest values of smoothed noise.

    Args:
      key: decides which.
      count: of images.
      side: patches along each side.
      ratio: share of the patches to mask; at least one is.

    Returns:
      bool [count, side, side], and the same as indices [count, number], in no order.
    """
    number = max(1, round(ratio * side * side))
    noise = jax.random.normal(key, (count, side, side))
    noise = jax.lax.reduce_window(noise, 0.0, jax.lax.add, (1, 3, 3), (1, 1, 1), "SAME")
    _, where = jax.lax.top_k(noise.reshape(count, side * side), number)
    chosen = (where[..., None] == jnp.arange(side * side)[None, None]).any(1)
    return chosen.reshape(count, side, side), where


def at(grid: jax.Array, where: jax.Array) -> jax.Array:
    """The cells of a grid [b, rows, columns, c] that `where` [b, n] counts off, [b * n, c]."""
    flat = grid.reshape(len(grid), -1, grid.shape[-1])
    found = jnp.take_along_axis(flat, where[..., None], axis=1)
    return found.reshape(-1, found.shape[-1])
