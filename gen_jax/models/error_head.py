"""Predicts how far a restored image is from the clean one, pixel by pixel.

It predicts the scale of a Laplace distribution of the error, learned by its likelihood
(arXiv:1703.04977), which is large where the network cannot know.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import depth_to_space, space_to_depth
from gen_jax.models.layers.conditioning import FiLM
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.patch_conv import DownConv, UpConv

_MULTIPLE = 4


class ErrorHead(nn.Module):
    """Convolutions at a half and a quarter of the size, without normalization.

    Attributes:
      channels: Channels at a half and at a quarter of the size.
      layers: 3x3 convolutions at each of them, on either side.
      embed_dim: Width of the embedding of the degradation.
      dtype: Compute dtype; parameters and the result are float32.
    """

    channels: tuple[int, int] = (32, 64)
    layers: tuple[int, int] = (1, 3)
    embed_dim: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        degraded: Float[Array, "b h w c"],
        restored: Float[Array, "b h w c"],
        degradation: Float[Array, "b p"],
    ) -> Float[Array, "b h w 1"]:
        """Returns the logarithm of the expected absolute error in 8-bit units.

        Args:
          degraded: Images in about [0, 1] of any size.
          restored: What a restorer made of them.
          degradation: Strengths that the restorer was conditioned on.
        """
        height, width = degraded.shape[1:3]
        pads = [(0, -side % _MULTIPLE) for side in (height, width)]
        seen = jnp.concatenate([restored - 0.5, 4.0 * (degraded - restored)], -1)
        seen = jnp.pad(seen, ((0, 0), *pads, (0, 0)), mode="edge")
        embedding = nn.Dense(self.embed_dim, dtype=self.dtype, name="embed")(degradation)

        def stage(x, features, count, name):
            for index in range(count):
                x = Conv(features, (3, 3), dtype=self.dtype, name=f"{name}_{index}")(x)
                x = jax.nn.relu(FiLM(self.dtype, name=f"{name}_{index}_film")(x, embedding))
            return x

        narrow, wide = self.channels
        skip = stage(space_to_depth(seen).astype(self.dtype), narrow, self.layers[0], "down")
        x = DownConv(wide, self.dtype, name="shrink")(skip)
        x = stage(x, wide, self.layers[1], "body")
        x = jnp.concatenate([UpConv(narrow, self.dtype, name="grow")(x), skip], -1)
        x = stage(x, narrow, self.layers[0], "up")
        x = Conv(4, (3, 3), dtype=self.dtype, name="tail")(x)
        return depth_to_space(x.astype(jnp.float32))[:, :height, :width]
