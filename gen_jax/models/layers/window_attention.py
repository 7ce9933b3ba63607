"""Self-attention within windows of a feature map, plain or shifted (Swin, arXiv:2103.14030).

A map of h by w pixels is cut into windows of `window` by `window`; all windows of a batch are
rows of one product. Shifted windows wrap around the map's edge, and what lies on the two sides of
that seam does not attend to one another. SCUNet (arXiv:2203.13278) states its mask as two bands
of the last row and column of windows: the same pairs of pixels as Swin's regions.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from gen_jax.common.errors import UserError

HEADS_FIRST, FLAT = "heads_first", "flat"


def window_partition(x: Shaped[Array, "b h w c"], window: int) -> Shaped[Array, "n t c"]:
    """Windows row by row, image after image: n = b (h / window) (w / window), t = window^2."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // window, window, w // window, window, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def window_merge(x: Shaped[Array, "n t c"], height: int, width: int) -> Shaped[Array, "b h w c"]:
    """The maps of `height` by `width` that `window_partition` cut up."""
    window = round(x.shape[1] ** 0.5)
    x = x.reshape(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


@functools.lru_cache(maxsize=64)
def shifted_regions(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """Which side of the seams each place of a rolled map's windows is on, int8 [windows, t].

    Places of a window attend to one another where the numbers are equal. Only the windows of the
    last row and of the last column have more than one.
    """
    rows, columns = np.arange(height) >= height - shift, np.arange(width) >= width - shift
    region = (2 * rows[:, None] + columns[None, :]).astype(np.int8)
    region = region.reshape(height // window, window, width // window, window)
    return region.transpose(0, 2, 1, 3).reshape(-1, window * window)


@functools.lru_cache(maxsize=8)
def relative_positions(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of a table of offsets for each pair of a window's places, [t, t] each.

    The offset is the query's place less the key's, plus window - 1.
    """
    place = np.arange(window * window)
    row, column = place // window, place % window
    return tuple(axis[:, None] - axis[None, :] + window - 1 for axis in (row, column))


class RelativePositionBias(nn.Module):
    """What is added to the logits for each head and offset.

    Attributes:
      heads: number of heads.
      window: side of a window.
      layout: of the parameter `table`: "heads_first" is [heads, 2 window - 1, 2 window - 1]
        (SCUNet), "flat" is [(2 window - 1)^2, heads] (Swin, SwinIR).
    """

    heads: int
    window: int
    layout: str = FLAT

    @nn.compact
    def __call__(self) -> Float[Array, "heads t t"]:
        if self.layout not in (HEADS_FIRST, FLAT):
            raise UserError(
                f"relative positions: layout {self.layout!r} is unknown: "
                f"use {HEADS_FIRST!r} or {FLAT!r}"
            )
        side = 2 * self.window - 1
        flat = self.layout == FLAT
        shape = (side * side, self.heads) if flat else (self.heads, side, side)
        init = nn.initializers.truncated_normal(0.02)
        table = self.param("table", init, shape, jnp.float32)
        rows, columns = relative_positions(self.window)
        if flat:
            return table[rows * side + columns].transpose(2, 0, 1)
        return table[:, rows, columns]


class WindowAttention(nn.Module):
    """Multi-head self-attention in each window of a map, with relative position bias.

    Parameters: `qkv` (query, key and value, each of all heads), `relative_position/table`, `proj`.
    Logits and softmax are float32 whatever the compute dtype is.

    Attributes:
      heads: number of heads; a divisor of the channels.
      window: side of a window in pixels; a divisor of the map's sides.
      shift: pixels that the windows are moved down and to the right, 0 for plain windows. SCUNet
        and Swin take window // 2. It is for the caller to leave it at 0 where one window is the
        whole map, as Swin does.
      table_layout: see `RelativePositionBias`.
      kernel_init: of both projections.
      dtype: compute dtype.
    """

    heads: int
    window: int = 8
    shift: int = 0
    table_layout: str = FLAT
    kernel_init: Any = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        _, height, width, channels = x.shape
        if channels % self.heads or height % self.window or width % self.window:
            raise UserError(
                f"WindowAttention: {self.heads} heads and windows of {self.window} do not divide "
                f"a map of {height}x{width} pixels and {channels} channels: pad it, or choose "
                "divisors"
            )
        dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        bias = RelativePositionBias(
            self.heads, self.window, self.table_layout, name="relative_position"
        )()
        regions = None
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
            regions = shifted_regions(height, width, self.window, self.shift)
        qkv = dense(3 * channels, name="qkv")(window_partition(x, self.window))
        out = attend_in_windows(qkv, bias, regions)
        out = window_merge(dense(channels, name="proj")(out), height, width)
        return jnp.roll(out, (self.shift, self.shift), (1, 2)) if self.shift else out


def attend_in_windows(
    qkv: Float[Array, "n t c3"],
    bias: Float[Array, "heads t t"],
    regions: np.ndarray | None = None,
) -> Float[Array, "n t c"]:
    """Attention of each window's places to those of its own region.

    Args:
      qkv: queries, keys and values side by side, each with its heads one after another.
      bias: added to the logits.
      regions: [windows of a map, t]; None where all places see one another.
    """
    n, t, channels = qkv.shape
    heads = bias.shape[0]
    width = channels // 3 // heads
    # One transposition for all three: products of windows then run without copies on a CPU.
    q, k, v = qkv.reshape(n, t, 3, heads, width).transpose(2, 0, 3, 1, 4)
    # Not jax.nn.dot_product_attention: cuDNN's kernels give NaN gradients for windows this small.
    logits = jnp.einsum("nhpd,nhqd->nhpq", q, k, preferred_element_type=jnp.float32)
    logits = logits * width**-0.5 + bias[None]
    if regions is not None:
        # The mask itself would take as much memory as the logits: XLA fuses the comparison.
        region = jnp.tile(jnp.asarray(regions), (n // len(regions), 1))
        same = region[:, None, :, None] == region[:, None, None, :]
        logits = jnp.where(same, logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    out = jnp.einsum("nhpq,nhqd->nhpd", weights, v)
    return out.transpose(0, 2, 1, 3).reshape(n, t, channels // 3)
