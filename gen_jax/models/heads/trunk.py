"""The trunk that domain heads share: a convolutional pyramid for images of any size."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import space_to_depth
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.patch_conv import DownConv

Pyramid = tuple[Float[Array, "b _ _ _"], ...]
"""Features at 1/2, 1/4, ... of the padded image's size, the largest map first."""


SMALL_INIT = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")


class ResidualConvs(nn.Module):
    """Two 3x3 convolutions, added to their input.

    There is no normalization: over maps of 32 x 32 cells it takes as long on a CPU as the
    convolutions. The second convolution starts small instead (arXiv:1901.09321).

    Attributes:
      features: Channels of the input and of the result.
      dtype: Compute dtype; parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        y = Conv(self.features, (3, 3), dtype=self.dtype, name="conv_0")(jax.nn.relu(x))
        y = Conv(self.features, (3, 3), kernel_init=SMALL_INIT, dtype=self.dtype, name="conv_1")(
            jax.nn.relu(y)
        )
        return x + y


class Trunk(nn.Module):
    """Residual blocks at 1/2, 1/4, ... of the image's size.

    Attributes:
      widths: Channels at each size, the largest size first.
      blocks: Residual blocks at each size.
      dtype: Compute dtype; parameters are float32.
    """

    widths: tuple[int, ...] = (16, 32, 64, 96)
    blocks: int = 1
    dtype: Any = jnp.float32

    @property
    def multiple(self) -> int:
        """Number of pixels of which the sides of padded images are multiples."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Pyramid:
        """Returns features of images in [0, 1].

        Sides that are no multiples of `multiple` are padded at the bottom and the right with the
        pixels of the border; `crop` cuts what is predicted there.
        """
        pads = [(0, -side % self.multiple) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")
        x = space_to_depth(2.0 * x - 1.0).astype(self.dtype)
        maps = []
        for level, width in enumerate(self.widths):
            if level:
                x = DownConv(width, self.dtype, name=f"down_{level}")(x)
            else:
                x = Conv(width, (3, 3), dtype=self.dtype, name="stem")(x)
            for i in range(self.blocks):
                x = ResidualConvs(width, self.dtype, name=f"block_{level}_{i}")(x)
            maps.append(x)
        return tuple(maps)


def crop(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b h2 w2 c"]:
    """Cuts what belongs to the trunk's padding off a map of the padded image's size."""
    return x[:, :height, :width]
