"""SCUNet: a UNet whose blocks are half convolution, half windowed attention (arXiv:2203.13278).

The published denoisers (https://github.com/cszn/SCUNet) have depths of 4, dim 64 and 17.95M
parameters. Parameter paths are the authors' up to the spelling that `encoders/scunet_files.py`
holds.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.patch_conv import TORCH_INIT, DownConv, UpConv
from gen_jax.models.layers.swin_block import SwinBlock
from gen_jax.models.restoration import RestorationNetwork, RestorationOutput


class ConvTransBlock(nn.Module):
    """1x1 convolution, one half of the channels convolved, the other attended, 1x1 convolution.

    Attributes: as `SwinBlock`.
    """

    heads: int
    window_size: int
    shift: int
    drop_path: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], deterministic: bool = True
    ) -> Float[Array, "b h w c"]:
        conv = functools.partial(Conv, kernel_init=TORCH_INIT, dtype=self.dtype)
        width = x.shape[-1]
        local, wide = jnp.split(conv(width, (1, 1), name="conv1_1")(x), 2, axis=-1)
        y = conv(width // 2, (3, 3), use_bias=False, name="conv_block_0")(local)
        y = conv(width // 2, (3, 3), use_bias=False, name="conv_block_2")(jax.nn.relu(y))
        wide = SwinBlock(
            self.heads, self.window_size, self.shift, self.drop_path, self.dtype, name="trans_block"
        )(wide, deterministic)
        return x + conv(width, (1, 1), name="conv1_2")(jnp.concatenate([y + local, wide], axis=-1))


class SCUNet(RestorationNetwork):
    """SCUNet, NHWC; `input_resolution` and `depths` (there `config`) are the authors' names.

    Attributes:
      in_channels, out_channels: of the image, 1 or 3 as published.
      depths: blocks of the three stages down, the body and the three stages up; every second block
        of a stage has shifted windows.
      dim: channels at full size; twice as many a halving, half of them for either branch.
      head_dim: channels of a head, a divisor of dim / 2.
      window_size: side of an attention window in pixels of each stage.
      input_resolution: nominal side of an input: stages that it leaves no larger than a window do
        not shift theirs, whatever the size of the image.
      drop_path_rate: of the last block; it grows evenly from 0 at the first.
      remat: compute blocks anew in the backward pass instead of keeping what is inside them.
      dtype: compute dtype; parameters, norms and softmax are float32.
    """

    in_channels: int = 3
    out_channels: int = 3
    depths: tuple[int, ...] = (4, 4, 4, 4, 4, 4, 4)
    dim: int = 64
    head_dim: int = 32
    window_size: int = 8
    input_resolution: int = 256
    drop_path_rate: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], deterministic: bool = True
    ) -> Float[Array, "b h w d"]:
        """Restored images of any size; values as they come, about [0, 1], not clipped.

        The last row and column are repeated to multiples of 8 windows, and the result is cropped.

        Args:
          x: images in [0, 1].
          deterministic: no drop path; else `rngs={"dropout": key}` is wanted where it has a rate.
        """
        self._check()
        height, width = x.shape[1:3]
        pads = [(0, -side % (8 * self.window_size)) for side in (height, width)]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")
        rates = iter(np.linspace(0.0, self.drop_path_rate, sum(self.depths)).tolist())
        block = nn.remat(ConvTransBlock, static_argnums=(2,)) if self.remat else ConvTransBlock

        def stage(x, name, depth, level, first=0):
            for i in range(depth):
                shifted = i % 2 and self.input_resolution >> level > self.window_size
                x = block(
                    x.shape[-1] // 2 // self.head_dim,
                    self.window_size,
                    self.window_size // 2 if shifted else 0,
                    next(rates),
                    self.dtype,
                    name=f"{name}_{first + i}",
                )(x, deterministic)
            return x

        conv = functools.partial(Conv, kernel_init=TORCH_INIT, use_bias=False, dtype=self.dtype)
        x = conv(self.dim, (3, 3), name="m_head_0")(x.astype(self.dtype))
        skips = [x]
        for level, depth in enumerate(self.depths[:3]):
            name = f"m_down{level + 1}"
            x = stage(x, name, depth, level)
            x = DownConv(2 * x.shape[-1], self.dtype, name=f"{name}_{depth}")(x)
            skips.append(x)
        x = stage(x, "m_body", self.depths[3], 3)
        for level, depth in zip((2, 1, 0), self.depths[4:]):
            name = f"m_up{level + 1}"
            x = UpConv(x.shape[-1] // 2, self.dtype, name=f"{name}_0")(x + skips.pop())
            x = stage(x, name, depth, level, first=1)
        x = conv(self.out_channels, (3, 3), name="m_tail_0")(x + skips.pop())
        return x[:, :height, :width].astype(jnp.float32)

    def restore(self, x, conditions, deterministic=True):
        return RestorationOutput(self(x, deterministic))

    def _check(self) -> None:
        if len(self.depths) != 7:
            raise UserError(
                f"SCUNet.depths={self.depths}: expected 7 entries, three stages down, the body, "
                "three stages up"
            )
        if self.dim % (2 * self.head_dim):
            raise UserError(
                f"SCUNet.dim={self.dim}: expected a multiple of 2 head_dim = {2 * self.head_dim}: "
                "half the channels are the attention's"
            )

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shape that is not padded."""
        side = 8 * self.window_size
        return (jnp.zeros((batch_size, side, side, self.in_channels)),)
