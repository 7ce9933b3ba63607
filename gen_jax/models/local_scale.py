"""How far images are locally from what they stand for."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import space_to_depth
from gen_jax.models.layers.conv import Conv

_LEAST, _MOST = -5.3, 0.0  # logarithms: half a level of 8 bits in [-1, 1], and half the range


class LocalScale(nn.Module):
    """Convolutions over blocks of 2x2 pixels to the standard deviation of an error.

    Attributes:
      width: channels.
      depth: convolutions before the last.
      dtype: compute dtype; parameters and the result are float32.
    """

    width: int = 32
    depth: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w 1"]:
        """Natural logarithms of deviations, alike in each block; `y` has even sides."""
        z = space_to_depth(y).astype(self.dtype)
        for index in range(self.depth):
            z = jax.nn.relu(Conv(self.width, (3, 3), dtype=self.dtype, name=f"conv_{index}")(z))
        zeros = nn.initializers.zeros_init()
        z = Conv(1, (3, 3), kernel_init=zeros, dtype=jnp.float32, name="out")(z)
        log_std = _LEAST + (_MOST - _LEAST) * jax.nn.sigmoid(z)
        return jnp.repeat(jnp.repeat(log_std, 2, 1), 2, 2)


def gaussian_nll(
    error: Float[Array, "b h w 1"], log_std: Float[Array, "b h w 1"]
) -> Float[Array, " b"]:
    """Mean negative log likelihood of errors of these deviations, but for a constant, in nats."""
    return (0.5 * jnp.square(error) * jnp.exp(-2.0 * log_std) + log_std).mean(axis=(1, 2, 3))
