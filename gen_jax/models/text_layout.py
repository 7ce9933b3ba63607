"""A map of places from a text: what convolutions cannot make of a vector in few steps."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class TextLayout(nn.Module):
    """Projects a vector to a map, as the first layer of a generator does (arXiv:1511.06434).

    Modulated channels are the same at every position, so a small UNet learns late to draw an
    outline from them. This map has numbers of its own for each position.

    Attributes:
      side: Height and width of the map.
      channels: Channels of the map.
      hidden_size: Width of the hidden layer.
      dtype: Compute dtype; parameters are float32.
    """

    side: int
    channels: int
    hidden_size: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b side side c"]:
        h = nn.gelu(nn.Dense(self.hidden_size, dtype=self.dtype, name="fc1")(x))
        h = nn.Dense(self.side**2 * self.channels, dtype=self.dtype, name="fc2")(h)
        return h.reshape(-1, self.side, self.side, self.channels)
