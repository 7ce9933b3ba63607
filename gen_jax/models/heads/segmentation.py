"""Segmentation head: class logits per pixel."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import depth_to_space
from gen_jax.models.heads.decoder import PyramidDecoder
from gen_jax.models.heads.trunk import Pyramid


class SegmentationNet(nn.Module):
    """Decodes a pyramid to logits; each feature of the largest map gives those of 2x2 pixels.

    Attributes:
      classes: Number of classes.
      width: Channels of the decoder.
      dtype: Compute dtype; parameters and logits are float32.
    """

    classes: int = 2
    width: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Pyramid) -> Float[Array, "b h w k"]:
        x = PyramidDecoder(self.width, dtype=self.dtype, name="decoder")(pyramid)
        x = nn.Dense(4 * self.classes, dtype=jnp.float32, name="logits")(x)
        return depth_to_space(x)
