"""Landmark head: a heatmap per point."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.heads.decoder import PyramidDecoder
from gen_jax.models.heads.trunk import Pyramid


class LandmarkNet(nn.Module):
    """Decodes a pyramid to logits over the places of each point, at half of the image's size.

    Attributes:
      points: Number of points.
      width: Channels of the decoder.
      dtype: Compute dtype; parameters and logits are float32.
    """

    points: int
    width: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Pyramid) -> Float[Array, "b h w n"]:
        x = PyramidDecoder(self.width, dtype=self.dtype, name="decoder")(pyramid)
        return nn.Dense(self.points, dtype=jnp.float32, name="logits")(x)
