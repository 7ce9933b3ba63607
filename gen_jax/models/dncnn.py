"""DnCNN (arXiv 1608.03981): a plain stack of convolutions that learns the noise, not the image."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.conv import Conv
from gen_jax.models.restoration import RestorationNetwork


class DnCNN(RestorationNetwork):
    """3x3 convolutions and ReLU; what they give is taken off the input.

    The paper's batch normalisation is an affine map once it is trained: it lies in the kernels and
    biases here, as in the published weights.

    Attributes:
      depth: convolutions; 17 for one noise level, 20 for blind and colour models.
      width: channels between them.
      channels: of the images.
      dtype: compute dtype; parameters are f32.
    """

    depth: int = 17
    width: int = 64
    channels: int = 1
    dtype: Any = jnp.float32

    @property
    def reach(self) -> int:
        """Pixels in each direction that one of the output depends on."""
        return self.depth

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Degraded images in about [0, 1] to restored ones, float32 and not clipped."""
        return x - stack(x, self.depth, self.width, self.channels, self.dtype)

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shapes that `init` takes."""
        return (jnp.zeros((batch_size, 4, 4, self.channels)),)


def stack(
    x: Float[Array, "b h w c"], depth: int, width: int, channels: int, dtype: Any
) -> Float[Array, "b h w d"]:
    """3x3 convolutions `conv_0`, `conv_1`, ... with ReLU between them, inside a compact module.

    Args:
      x: images or feature maps; zeros are laid around them.
      depth: convolutions, at least 2.
      width: channels between them.
      channels: of the result.
      dtype: compute dtype.

    Returns:
      float32, as large as `x`.
    """
    for i in range(depth - 1):
        x = jax.nn.relu(Conv(width, (3, 3), dtype=dtype, name=f"conv_{i}")(x))
    return Conv(channels, (3, 3), dtype=dtype, name=f"conv_{depth - 1}")(x).astype(jnp.float32)
