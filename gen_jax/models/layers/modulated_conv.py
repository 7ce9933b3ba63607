"""Convolutions that a latent steers: style modulation, or FiLM after a normalisation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.norms import layer_norm

_EPS = 1e-8


class StyleConv(nn.Module):
    """Weight modulation and demodulation (arXiv 1912.04958, section 2.2).

    Scaling a filter's input channels by sample is scaling the input's channels, and the
    demodulation is one factor a sample and output channel: the same numbers as with a filter for
    each sample, by one convolution with shared filters.

    Attributes:
      features: output channels.
      kernel_size: pixels a side of the filter.
      demodulate: whether outputs are brought back to unit variance.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    kernel_size: int = 3
    demodulate: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], w: Float[Array, "b d"]
    ) -> Float[Array, "b h w {self.features}"]:
        """Convolves `x`, each sample by the style that is made of its row of `w`."""
        channels, side = x.shape[-1], self.kernel_size
        kernel = self.param(
            "kernel",
            nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
            (side, side, channels, self.features),
            jnp.float32,
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        style = nn.Dense(channels, bias_init=nn.initializers.ones_init(), name="style")(w)
        x = x.astype(self.dtype) * style.astype(self.dtype)[:, None, None]
        x = jax.lax.conv_general_dilated(
            x, kernel.astype(self.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        if self.demodulate:
            power = jnp.square(style) @ jnp.square(kernel).sum((0, 1))
            x = x * jax.lax.rsqrt(power + _EPS).astype(self.dtype)[:, None, None]
        return x + bias.astype(self.dtype)[None, None, None]


class FiLMConv(nn.Module):
    """Convolution, normalisation over channels, and a scale and shift made of the latent
    (arXiv 1709.07871).

    Attributes:
      features: output channels.
      kernel_size: pixels a side of the filter.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    kernel_size: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], w: Float[Array, "b d"]
    ) -> Float[Array, "b h w {self.features}"]:
        """Convolves `x`; each sample is scaled and shifted by what is made of its row of `w`."""
        side = self.kernel_size
        x = nn.Conv(self.features, (side, side), dtype=self.dtype, name="conv")(x)
        x = layer_norm("norm", 1e-6, self.dtype)(x)
        scale, shift = jnp.split(nn.Dense(2 * self.features, name="film")(w)[:, None, None], 2, -1)
        return x * (1.0 + scale).astype(self.dtype) + shift.astype(self.dtype)
