"""What a patch's surroundings look like, as targets of a token: gradients and colours."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.losses.hog import BINS, hog

# Cells of half a patch, of the patch and one around it; cells of a patch, the same; four colours.
_WIDTHS = {"fine": 16 * BINS, "coarse": 9 * BINS, "color": 12}
WIDTH = sum(_WIDTHS.values())
LAYOUT_WIDTH = BINS + 3


def describe(
    images: Float[Array, "b h w 3"], patch_size: int
) -> Float[Array, "b rows columns width"]:
    """The surroundings of each patch.

    Args:
      images: in [0, 1].
      patch_size: in pixels, even; divides both sides.

    Returns:
      For each patch `WIDTH` numbers: histograms of oriented gradients in the 4x4 cells of half a
      patch that lie in and around it, in the 3x3 patches that it is the middle of, and the mean
      colours of its quarters.
    """
    half = patch_size // 2
    b, h, w, _ = images.shape
    quarters = images.reshape(b, h // half, half, w // half, half, 3).mean((2, 4))
    parts = (
        _around(hog(images, half), 2, 1),
        _around(hog(images, patch_size), 1, 1),
        _around(quarters, 2, 0),
    )
    return jnp.concatenate(parts, axis=-1)


def layout(images: Float[Array, "b h w 3"], patch_size: int) -> Float[Array, "b width"]:
    """Every patch's histogram and mean colour, `LAYOUT_WIDTH` numbers each, in a row."""
    b, h, w, _ = images.shape
    color = images.reshape(b, h // patch_size, patch_size, w // patch_size, patch_size, 3)
    cells = jnp.concatenate([hog(images, patch_size), color.mean((2, 4))], axis=-1)
    return cells.reshape(b, -1)


def errors(
    said: Float[Array, "b rows columns width"], target: Float[Array, "b rows columns width"]
) -> dict[str, Float[Array, "b rows columns"]]:
    """Squared errors by kind, `fine`, `coarse` and `color`, each the mean over its numbers."""
    squared, found, start = standard_error(said, target), {}, 0
    for name, width in _WIDTHS.items():
        found[name] = squared[..., start : start + width].mean(-1)
        start += width
    return found


def standard_error(
    said: Float[Array, "*b width"], target: Float[Array, "*b width"]
) -> Float[Array, "*b width"]:
    """Squared distance to the target at mean 0 and deviation 1 over the batch.

    Saying the mean costs 1; what hardly varies costs little.
    """
    axes = tuple(range(target.ndim - 1))
    mean, deviation = (f(target, axes, keepdims=True) for f in (jnp.mean, jnp.std))
    return (said - (target - mean) / (deviation + 0.02)) ** 2


def _around(cells, per_patch: int, margin: int):
    """Of each patch's cells and `margin` more on each side, all numbers in a row."""
    rows, columns = cells.shape[1:3]
    sides = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = jnp.pad(cells, sides, mode="edge")
    reach = range(per_patch + 2 * margin)
    found = [
        padded[:, i : i + rows : per_patch, j : j + columns : per_patch]
        for i in reach
        for j in reach
    ]
    return jnp.concatenate(found, axis=-1)
