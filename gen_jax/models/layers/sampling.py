"""Halving and doubling of feature maps, NHWC."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.conv import Conv


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Every pixel twice in each direction: a broadcast and a reshape, no gather."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


class Downsample2D(nn.Module):
    """3x3 convolution of stride 2.

    Attributes:
      features: channels of the result.
      padding: 1 pads each side by a pixel (UNet: size -> ceil(size / 2)); 0 pads the
        bottom and the right only (the autoencoder's encoder: size -> floor(size / 2)).
      dtype: compute dtype.
    """

    features: int
    padding: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        pads = ((1, 1), (1, 1)) if self.padding == 1 else ((0, 1), (0, 1))
        return Conv(
            self.features, (3, 3), strides=(2, 2), padding=pads, dtype=self.dtype, name="conv"
        )(x)


class Upsample2D(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution.

    Attributes:
      features: channels of the result.
      dtype: compute dtype.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], size: tuple[int, int] | None = None
    ) -> Float[Array, "b h2 w2 d"]:
        """Doubles `x`, or brings it to `size`, which is at most a pixel less than double.

        Nearest-neighbour resampling of n pixels to 2n - 1 repeats each pixel twice but the
        last, so that cutting the doubled map is the same thing.
        """
        x = upsample_nearest(x)
        if size is not None:
            x = x[:, : size[0], : size[1], :]
        return Conv(self.features, (3, 3), padding=1, dtype=self.dtype, name="conv")(x)
