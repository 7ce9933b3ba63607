"""Decodes latents into what they add to an image that is there already.

An autoencoder's decoder draws the whole image, and its own error with it. This one sees the image
that the latents are to improve, at half of its size (the skip connection of controllable decoders
such as arXiv:2305.07015), and returns the difference.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import depth_to_space, space_to_depth
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.patch_conv import UpConv


class _Block(nn.Module):
    """Two 3x3 convolutions, residual and the identity at initialization.

    There is no normalization: its statistics would differ from tile to tile of a large image.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        width = x.shape[-1]
        y = nn.relu(Conv(width, (3, 3), dtype=self.dtype, name="conv_0")(x))
        zeros = nn.initializers.zeros
        return x + Conv(width, (3, 3), kernel_init=zeros, dtype=self.dtype, name="conv_1")(y)


class DetailDecoder(nn.Module):
    """Residual blocks on the latents' grid, then, beside the image, at half of its size.

    Attributes:
      factor: Pixels per side of a latent position, a power of 2 from 2.
      channels: Channels on the latents' grid and at half of the size.
      layers: Residual blocks at each of the two.
      dtype: Compute dtype; parameters and the result are float32.
    """

    factor: int = 4
    channels: tuple[int, int] = (96, 48)
    layers: tuple[int, int] = (2, 3)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b hl wl z"],
        source: Float[Array, "b hl wl z"],
        image: Float[Array, "b h w c"],
    ) -> Float[Array, "b h w c"]:
        """Returns the difference to the image, which is zero at initialization.

        Args:
          z: Latents to decode.
          source: Latents of the image.
          image: The image in about [0, 1], `factor` times as large as the latents.
        """
        wide, narrow = self.channels
        h = jnp.concatenate([z, z - source], -1)
        h = Conv(wide, (3, 3), dtype=self.dtype, name="head")(h.astype(self.dtype))
        for index in range(self.layers[0]):
            h = _Block(self.dtype, name=f"low_{index}")(h)
        for index in range(int(math.log2(self.factor)) - 1):
            h = UpConv(narrow, self.dtype, name=f"grow_{index}")(h)
        seen = space_to_depth(image - 0.5).astype(self.dtype)
        skip = Conv(narrow, (3, 3), dtype=self.dtype, name="skip")(seen)
        h = Conv(narrow, (1, 1), dtype=self.dtype, name="join")(jnp.concatenate([h, skip], -1))
        for index in range(self.layers[1]):
            h = _Block(self.dtype, name=f"high_{index}")(h)
        h = Conv(
            4 * image.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype,
            name="tail",
        )(nn.silu(h))  # fmt: skip
        return depth_to_space(h.astype(jnp.float32))
