"""Embedding of the diffusion time."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from gen_jax.models.layers.activations import get_activation


def timestep_embedding(
    timesteps: Num[Array, "b"],
    dim: int,
    *,
    flip_sin_to_cos: bool = True,
    freq_shift: float = 0.0,
    max_period: float = 10_000.0,
) -> Float[Array, "b dim"]:
    """Sinusoids of geometrically spaced frequencies (arXiv:2006.11239), in float32.

    Args:
      timesteps: times, whole or fractional, in training steps (0 to 999 for SD).
      dim: size of the embedding; an odd one is padded with a zero.
      flip_sin_to_cos: cosines first, as Stable Diffusion has them.
      freq_shift: the frequencies are max_period ** -(i / (dim // 2 - freq_shift)).
      max_period: the longest wavelength over 2 pi.
    """
    half = dim // 2
    exponent = -math.log(max_period) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift)
    angles = timesteps.astype(jnp.float32)[:, None] * jnp.exp(exponent)[None, :]
    parts = [jnp.sin(angles), jnp.cos(angles)]
    if flip_sin_to_cos:
        parts.reverse()
    if dim % 2:
        parts.append(jnp.zeros_like(angles[:, :1]))
    return jnp.concatenate(parts, axis=-1)


class TimestepEmbedding(nn.Module):
    """Two dense layers on top of the sinusoids.

    Attributes:
      features: size of the result (4 x block_out_channels[0] in the UNet).
      act_fn: activation between the layers.
      zero_init: start at zero, so that what is embedded does not speak at first.
      dtype: compute dtype.
    """

    features: int
    act_fn: str = "silu"
    zero_init: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b features"]:
        x = nn.Dense(self.features, dtype=self.dtype, name="linear_1")(x)
        x = get_activation(self.act_fn)(x)
        init = nn.initializers.zeros_init() if self.zero_init else nn.initializers.lecun_normal()
        return nn.Dense(self.features, kernel_init=init, dtype=self.dtype, name="linear_2")(x)
