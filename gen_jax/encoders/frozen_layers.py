"""Layers of frozen convolutional towers, with the meaning that PyTorch gives them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError

HIGHEST = jax.lax.Precision.HIGHEST
"""Precision of every tower by default: accelerators else round float32 factors."""


def conv(
    features: int,
    size: int | tuple[int, int],
    *,
    name: str,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    bias: bool = True,
    precision: Any = HIGHEST,
) -> nn.Conv:
    """A convolution with as many zeros on both sides as `padding` says.

    Args:
      features: output channels.
      size: of the kernel, (height, width) or one number for both.
      name: of the submodule.
      stride: in both directions.
      padding: (top and bottom, left and right), or one number for all.
      bias: whether one is added.
      precision: of the products; None for JAX's default.
    """
    high, wide = (padding, padding) if isinstance(padding, int) else padding
    return nn.Conv(
        features,
        (size, size) if isinstance(size, int) else size,
        strides=(stride, stride),
        padding=((high, high), (wide, wide)),
        use_bias=bias,
        precision=precision,
        name=name,
    )


class DepthwiseConv(nn.Module):
    """Each channel convolved by itself, without a bias; at stride 1 the map keeps its size.

    A sum of shifted maps: the same numbers as one convolution with as many groups as channels,
    which XLA runs 5 to 20 times as slowly on a CPU.

    Attributes:
      size: of the square kernel, odd.
      stride: in both directions.
    """

    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        edge = self.size // 2
        height, width = ((n - 1) // self.stride * self.stride + 1 for n in x.shape[1:3])
        x = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        out = jnp.zeros((), x.dtype)
        for i in range(self.size):
            for j in range(self.size):
                part = x[:, i : i + height : self.stride, j : j + width : self.stride]
                out = out + part * kernel[i, j][None, None]
        return out


class BatchNorm(nn.Module):
    """Batch normalisation at inference: the statistics are parameters like the others.

    Attributes:
      epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        kinds = {"scale": ones, "bias": zeros, "mean": zeros, "var": ones}
        value = {
            name: self.param(name, init, x.shape[-1:], jnp.float32)[None, None, None]
            for name, init in kinds.items()
        }
        factor = value["scale"] * jax.lax.rsqrt(value["var"] + self.epsilon)
        return (x - value["mean"]) * factor + value["bias"]


BATCH_NORM_NAMES = ((r"\.mean$", ".running_mean"), (r"\.var$", ".running_var"))
"""PyTorch's names of the statistics, for a `Port`'s `rename`."""

BATCH_NORM_EXTRA = (r"\.num_batches_tracked$",)
"""What PyTorch's files hold besides, for a `Port`'s `ignore`."""


def max_pool(
    x: Float[Array, "b h w c"], size: int, stride: int, *, padding: int = 0, ceil: bool = False
) -> Float[Array, "b h2 w2 c"]:
    """Largest value of each window.

    Args:
      x: feature map.
      size: of the square window.
      stride: between windows.
      padding: pixels around the map that no window chooses.
      ceil: whether a last window that lies only partly inside counts.
    """
    pads = []
    for n in x.shape[1:3]:
        beyond = -(n + 2 * padding - size) % stride if ceil else 0
        pads.append((padding, padding + beyond))
    return nn.max_pool(x, (size, size), (stride, stride), pads)


def check_size(x: jax.Array, least: int, who: str) -> None:
    """Raises UserError for images too small for every feature map to have a pixel."""
    if min(x.shape[1:3]) < least:
        raise UserError(
            f"{who}: images of {x.shape[1]}x{x.shape[2]}: expected at least {least} pixels a side"
        )
