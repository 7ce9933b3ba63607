"""Histograms of oriented gradients, what MaskFeat predicts of masked patches (arXiv:2112.09133)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BINS = 9


def hog(images: Float[Array, "b h w 3"], cell: int) -> Float[Array, "b rows columns bins"]:
    """Gradients by direction in square cells (Dalal and Triggs, CVPR 2005).

    Args:
      images: in [0, 1].
      cell: pixels a side, a divisor of both sides.

    Returns:
      For each cell the share of 9 directions over half the circle, square-rooted, in
      proportion to the energy of the 3x3 cells around it: [b, h / cell, w / cell, 9].
    """
    gray = jnp.sqrt(jnp.maximum(images.mean(-1), 0.0) + 1e-6)
    padded = jnp.pad(gray, ((0, 0), (1, 1), (1, 1)), mode="edge")
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    size = jnp.sqrt(down**2 + right**2)
    # A direction lies between two bins and counts for both.
    at = jnp.mod(jnp.arctan2(down, right) / jnp.pi, 1.0) * BINS
    distance = jnp.abs(at[..., None] - jnp.arange(BINS)[None, None, None])
    distance = jnp.minimum(distance, BINS - distance)
    votes = jnp.maximum(1.0 - distance, 0.0) * size[..., None]
    b, h, w, _ = votes.shape
    cells = votes.reshape(b, h // cell, cell, w // cell, cell, BINS).mean((2, 4))
    energy = jax.lax.reduce_window(cells.sum(-1), 0.0, jax.lax.add, (1, 3, 3), (1, 1, 1), "SAME")
    return jnp.sqrt(cells / (energy[..., None] + 0.02))
