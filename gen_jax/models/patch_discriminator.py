"""PatchGAN discriminator (arXiv 1611.07004): one logit a patch."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.norms import GroupNorm


class PatchDiscriminator(nn.Module):
    """Strided 4x4 convolutions with group normalisation and leaky ReLU.

    Attributes:
      channels: of the first layer; they double up to eightfold.
      num_layers: layers of stride 2.
      dtype: compute dtype; parameters are f32.
    """

    channels: int = 64
    num_layers: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hp wp 1"]:
        """Images in [-1, 1] to logits, high for real."""
        for index in range(self.num_layers):
            width = self.channels * min(2**index, 8)
            x = nn.Conv(width, (4, 4), (2, 2), dtype=self.dtype, name=f"conv_{index}")(x)
            if index:
                # Group instead of batch statistics: the same on any number of devices.
                x = GroupNorm(8, dtype=self.dtype, name=f"norm_{index}")(x)
            x = nn.leaky_relu(x, 0.2)
        return nn.Conv(1, (4, 4), dtype=self.dtype, name="conv_out")(x).astype(jnp.float32)
