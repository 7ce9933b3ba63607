"""FFDNet (arXiv 1710.04026): a denoiser at half resolution that is told the noise level."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.dncnn import stack
from gen_jax.models.restoration import RestorationNetwork, RestorationOutput

# Places of a block in the order of their channels, (row, column).
_PLACES = ((0, 0), (1, 0), (0, 1), (1, 1))


class FFDNet(RestorationNetwork):
    """3x3 convolutions over blocks of 2x2 pixels and a plane of the noise's deviation.

    Attributes:
      depth: convolutions; 15 in the gray model, 12 in the colour one.
      width: channels between them; 64 and 96.
      channels: of the images.
      residual: give what is to be added to the input, which trains faster; published ones give
        the image.
      dtype: compute dtype; parameters are f32.
    """

    depth: int = 15
    width: int = 64
    channels: int = 1
    residual: bool = False
    dtype: Any = jnp.float32

    conditions = ("sigma",)

    @property
    def reach(self) -> int:
        """Pixels in each direction that one of the output depends on, at most."""
        return 2 * self.depth + 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Float[Array, "b"]
    ) -> Float[Array, "b h w c"]:
        """Noisy images to clean ones.

        Args:
          x: in about [0, 1]; an odd side is continued by its last row or column, which is cut off
            again.
          sigma: deviation of the noise in the same unit: 25/255.

        Returns:
          float32, not clipped.
        """
        h, w = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        blocks = space_to_depth(x)
        plane = jnp.broadcast_to(sigma[:, None, None, None], (*blocks.shape[:3], 1))
        told = jnp.concatenate([blocks, plane], axis=-1)
        y = stack(told, self.depth, self.width, 4 * self.channels, self.dtype)
        return depth_to_space(blocks + y if self.residual else y)[:, :h, :w]

    def restore(self, x, conditions, deterministic=True):
        return RestorationOutput(self(x, conditions["sigma"]))

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shapes that `init` takes."""
        return jnp.zeros((batch_size, 4, 4, self.channels)), jnp.zeros(batch_size)


def space_to_depth(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
    """Blocks of 2x2 pixels as channels: by colour, in each (0, 0), (1, 0), (0, 1), (1, 1)."""
    blocks = jnp.stack([x[:, i::2, j::2] for i, j in _PLACES], axis=-1)
    return blocks.reshape(*blocks.shape[:3], -1)


def depth_to_space(x: Float[Array, "b h2 w2 d"]) -> Float[Array, "b h w c"]:
    """The inverse of `space_to_depth`."""
    b, h, w, d = x.shape
    # [.., colour, column, row], as `_PLACES` counts rows fastest.
    x = x.reshape(b, h, w, d // 4, 2, 2).transpose(0, 1, 5, 2, 4, 3)
    return x.reshape(b, 2 * h, 2 * w, d // 4)
