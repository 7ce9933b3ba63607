"""Top-down decoder of a feature pyramid (FPN, arXiv:1612.03144)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.heads.trunk import Pyramid
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.sampling import upsample_nearest


class PyramidDecoder(nn.Module):
    """Adds each map to the enlarged sum of the smaller ones.

    Attributes:
      width: Channels of the result.
      level: Index of the map in the pyramid whose size the result has; 0 is half of the image's.
      dtype: Compute dtype; parameters are float32.
    """

    width: int = 32
    level: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Pyramid) -> Float[Array, "b h w c"]:
        top = None
        for i in reversed(range(self.level, len(pyramid))):
            side = nn.Dense(self.width, dtype=self.dtype, name=f"lateral_{i}")(pyramid[i])
            x = side if top is None else side + upsample_nearest(top)
            top = Conv(self.width, (3, 3), dtype=self.dtype, name=f"conv_{i}")(jax.nn.relu(x))
        return jax.nn.relu(top)
