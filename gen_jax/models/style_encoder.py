"""What a picture is like as a whole, told of its codes in a few numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class StyleEncoder(nn.Module):
    """Maps of codes' vectors to points on a sphere.

    Attributes:
      dim: numbers of a style.
      hidden: channels of the first convolution, half those of the others.
    """

    dim: int = 16
    hidden: int = 64

    @nn.compact
    def __call__(self, z: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """Styles, each a vector of `dim` numbers whose mean square is 1."""
        y = nn.gelu(nn.Conv(self.hidden, (3, 3), name="enter")(z))
        for index in range(2):
            name = f"shrink_{index}"
            y = nn.gelu(nn.Conv(2 * self.hidden, (3, 3), strides=(2, 2), name=name)(y))
        # Places are kept apart: where the light comes from is a part of what a picture is like.
        y = nn.gelu(nn.Dense(2 * self.hidden, name="gather")(y.reshape(len(y), -1)))
        y = nn.Dense(self.dim, name="leave")(y)
        return y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-6)
