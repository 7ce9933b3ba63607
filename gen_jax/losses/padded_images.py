"""Distances of images that are padded to a square, and of their features."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_PADDING_WEIGHT = 0.1  # of the pixels that are only there to make the image square


def pixel_errors(
    error: Float[Array, "b h w 1"], mask: Bool[Array, "b h w 1"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the mean absolute and squared error, the padding at a small weight.

    Args:
      error: Images less their targets.
      mask: False at the padding.
    """
    weight = jnp.where(mask, 1.0, _PADDING_WEIGHT)
    weight = weight / weight.mean()
    return (weight * jnp.abs(error)).mean(), (weight * jnp.square(error)).mean()


def feature_distance(
    x: Sequence[Float[Array, "b _ _ _"]],
    y: Sequence[Float[Array, "b _ _ _"]],
) -> Float[Array, ""]:
    """Returns the mean squared distance of features that have a length of 1 at each place.

    It is LPIPS (arXiv:1801.03924) without its learned weights.

    Args:
      x: Feature maps of the targets, by stage.
      y: Feature maps of the images, which alone have a gradient.
    """

    def unit(h):
        return h * jax.lax.rsqrt(jnp.square(h).sum(-1, keepdims=True) + 1e-6)

    distances = [
        jnp.square(unit(jax.lax.stop_gradient(a)) - unit(b)).sum(-1).mean()
        for a, b in zip(x, y, strict=True)
    ]
    return sum(distances) / len(distances)
