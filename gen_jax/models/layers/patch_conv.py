"""Convolutions whose patches do not overlap: halving and doubling the resolution as one product."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

# PyTorch's default for convolutions and dense layers, which SCUNet and Swin are trained from.
TORCH_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class DownConv(nn.Module):
    """2x2 convolution of stride 2 without bias, as one product over patches."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        b, h, w, c = x.shape
        kernel = self.param("kernel", TORCH_INIT, (2, 2, c, self.features), jnp.float32)
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).astype(self.dtype)
        return jnp.einsum("bhiwjc,ijcd->bhwd", x, kernel.astype(self.dtype))


class UpConv(nn.Module):
    """2x2 transposed convolution of stride 2 without bias: patches do not overlap.

    The kernel is [2, 2, out, in], so that its torch layout is ConvTranspose2d's (in, out, 2, 2).
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        b, h, w, c = x.shape
        kernel = self.param("kernel", TORCH_INIT, (2, 2, self.features, c), jnp.float32)
        y = jnp.einsum("bhwc,ijdc->bhiwjd", x.astype(self.dtype), kernel.astype(self.dtype))
        return y.reshape(b, 2 * h, 2 * w, self.features)
