"""Images to patch tokens, and learnt positions for images of any size.

The positions are resized as PyTorch's `interpolate(mode="bicubic", align_corners=False)`
does it: with Keys' kernel (IEEE TASSP 29(6), 1981) at a = -0.75 and repeated borders, or,
with `antialias=True`, at a = -0.5, widened when it shrinks, and renormalised at the borders.
`jax.image.resize` is the second only. Resizing is linear in each axis: two small matrices.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


class PatchEmbed(nn.Module):
    """A convolution whose stride is its size, as one matrix product.

    Attributes:
      features: channels of a token.
      patch_size: pixels a side.
      use_bias: whether there is a bias.
      dtype: compute dtype; `kernel` [p, p, c, features] and `bias` are float32.
    """

    features: int
    patch_size: int
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows columns features"]:
        """Embeds.

        Raises:
          UserError: a side is no multiple of `patch_size`.
        """
        p, (b, h, w, c) = self.patch_size, x.shape
        if h % p or w % p:
            raise UserError(
                f"images of {h}x{w} pixels: both sides must be multiples of the patch size {p}: "
                "resize or crop them"
            )
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (p, p, c, self.features), jnp.float32
        )
        x = x.astype(self.dtype).reshape(b, h // p, p, w // p, p, c)
        y = jnp.einsum("brpsqc,pqcd->brsd", x, kernel.astype(self.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)[None, None, None, :]
        return y


def wave_positions(side: int, width: int, scale: float = 0.5) -> Float[Array, "1 n width"]:
    """Sines and cosines of rows and columns (as arXiv:2111.06377), zero for the class token.

    Args:
      side: of the square grid.
      width: channels, a multiple of 4.
      scale: amplitude.

    Returns:
      First values for positions that are learnt: [1, side * side + 1, width].
    """
    if width % 4:
        raise UserError(f"hidden_size={width}: must be a multiple of 4 for positions in waves")
    at = (np.arange(side) + 0.5) / side
    angles = at[:, None] * np.pi * (2.0 ** np.linspace(0.0, 3.0, width // 4))[None]
    table = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    grid = np.concatenate([table.repeat(side, 0), np.tile(table, (side, 1))], -1)
    return jnp.asarray(scale * np.concatenate([np.zeros((1, width)), grid])[None], jnp.float32)


def resize_positions(
    table: Float[Array, "n c"], rows: int, columns: int, antialias: bool = False
) -> Float[Array, "m c"]:
    """Positions of a square grid resized to `rows` x `columns`, in float32.

    Args:
      table: the learnt positions, row by row; n is a square.
      rows: of the wanted grid.
      columns: of the wanted grid; m = rows * columns.
      antialias: as PyTorch's argument of this name.
    """
    side = round(table.shape[0] ** 0.5)
    if side * side != table.shape[0]:
        raise UserError(f"{table.shape[0]} positions are no square grid and cannot be resized")
    if (rows, columns) == (side, side):
        return table
    channels = table.shape[1]
    grid = table.astype(jnp.float32).reshape(side, side, channels)
    highest = jax.lax.Precision.HIGHEST
    vertical = jnp.asarray(bicubic_matrix(side, rows, antialias))
    horizontal = jnp.asarray(bicubic_matrix(side, columns, antialias))
    grid = jnp.einsum("ri,ijc->rjc", vertical, grid, precision=highest)
    grid = jnp.einsum("sj,rjc->rsc", horizontal, grid, precision=highest)
    return grid.reshape(rows * columns, channels)


@functools.cache
def bicubic_matrix(size: int, new_size: int, antialias: bool = False) -> np.ndarray:
    """The matrix [new_size, size] that resizes one axis, float32."""
    scale = size / new_size
    center = scale * (np.arange(new_size) + 0.5)
    if antialias:
        widen = max(scale, 1.0)
        taps = np.arange(size)[None, :]
        first = np.maximum((center - 2 * widen + 0.5).astype(int), 0)[:, None]
        last = np.minimum((center + 2 * widen + 0.5).astype(int), size)[:, None]
        weights = _keys((taps + 0.5 - center[:, None]) / widen, -0.5)
        weights = np.where((taps >= first) & (taps < last), weights, 0.0)
        matrix = weights / weights.sum(axis=1, keepdims=True)
    else:
        position = center - 0.5
        floor = np.floor(position).astype(int)
        matrix = np.zeros((new_size, size))
        for tap in range(-1, 3):
            column = np.clip(floor + tap, 0, size - 1)
            weight = _keys(position - floor - tap, -0.75)
            np.add.at(matrix, (np.arange(new_size), column), weight)
    return matrix.astype(np.float32)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel with the parameter `a`."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
