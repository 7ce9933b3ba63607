"""A generator that grows: 4x4 pixels first, then twice as many a block, up to 256x256 and beyond.

Blocks, mapping network and noise are those of StyleGAN2 with skip connections (arXiv 1912.04958),
without upsampling filters beyond bilinear. A config of the next resolution has one block more and
begins with the parameters of the last one (`init_from`): names go by resolution.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.models.layers.attention import Attention
from gen_jax.models.layers.conditioning import masked_mean
from gen_jax.models.layers.modulated_conv import FiLMConv, StyleConv
from gen_jax.models.layers.norms import layer_norm

_FIRST = 4  # pixels a side of the first block
_SLOPE = 0.2  # of the leaky ReLU
_LISTENING = (8, 16)  # pixels a side of the blocks that attend to text
_HEADS = 4

Heard = tuple[Float[Array, "b n d"], Any] | None
"""States of a text, and which of them count (None: all)."""


class ProgressiveGenerator(nn.Module):
    """Latent to image in [-1, 1] or thereabouts.

    Attributes:
      z_dim: numbers of the latent.
      w_dim: numbers that steer the blocks.
      mapping_layers: of the network from the one to the other.
      block_out_channels: channels of the blocks of 4x4, 8x8, ... pixels.
      out_channels: 3, or 1 for gray pictures.
      modulation: "style" or "film", how a block hears the latent.
      text: how a text is heard: "latent", its mean state beside the latent; "cross", blocks of 8
        and 16 pixels attend to its states; "" not at all.
      noise: whether blocks add noise, of a learnt strength, that the latent does not decide.
      remat: recompute the blocks in the backward pass.
      dtype: compute dtype; parameters are float32.
    """

    z_dim: int = 128
    w_dim: int = 128
    mapping_layers: int = 2
    block_out_channels: Sequence[int] = (256, 256, 128, 64, 32)
    out_channels: int = 3
    modulation: str = "style"
    text: str = ""
    noise: bool = True
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def resolution(self) -> int:
        """Pixels a side of what it makes."""
        return _FIRST * 2 ** (len(self.block_out_channels) - 1)

    def setup(self):
        if self.modulation not in ("style", "film"):
            raise UserError(f"modulation={self.modulation!r}: expected style or film")
        if self.out_channels not in (1, 3):
            raise UserError(f"out_channels={self.out_channels}: expected 1 or 3")
        if self.text not in ("", "latent", "cross"):
            raise UserError(f'text={self.text!r}: expected latent, cross or ""')
        if self.text == "latent":
            self.read = nn.Dense(self.z_dim, name="text")
        self.layers = [
            nn.Dense(self.w_dim, name=f"mapping_{i}") for i in range(self.mapping_layers)
        ]
        self.initial = nn.Dense(_FIRST * _FIRST * self.block_out_channels[0], name="initial")
        block = nn.remat(_Block) if self.remat else _Block
        self.blocks = [
            block(
                channels,
                self.out_channels,
                self.modulation,
                self.noise,
                self.dtype,
                self.text == "cross" and _FIRST * 2**i in _LISTENING,
                name=f"block_{_FIRST * 2**i}",
            )
            for i, channels in enumerate(self.block_out_channels)
        ]

    def __call__(
        self,
        z: Float[Array, "b {self.z_dim}"],
        keys: Any = None,
        fade: float | Float[Array, ""] = 1.0,
        heard: Heard = None,
    ) -> Float[Array, "b h w c"]:
        """Makes pictures.

        Args:
          z: latents, standard normal.
          keys: a key a sample, [b], for the noise; None adds none.
          fade: share of the last block in the picture, 0 to 1: a new block is faded in
            (arXiv 1710.10196).
          heard: a text for each sample.
        """
        return self.synthesis(self.mapping(z, heard), keys, fade, heard)

    def mapping(
        self, z: Float[Array, "b z"], heard: Heard = None
    ) -> Float[Array, "b {self.w_dim}"]:
        """From latents, of which the direction alone counts, to what steers the blocks."""
        w = _of_unit_size(z.astype(jnp.float32))
        if self.text == "latent":
            w = jnp.concatenate([w, _of_unit_size(self.read(masked_mean(*heard)))], -1)
        for layer in self.layers:
            w = nn.leaky_relu(layer(w), _SLOPE)
        return w

    def synthesis(
        self,
        w: Float[Array, "b {self.w_dim}"],
        keys: Any = None,
        fade: float | Float[Array, ""] = 1.0,
        heard: Heard = None,
    ) -> Float[Array, "b h w c"]:
        """Pictures of what `mapping` gives; arguments as of `__call__`."""
        x = self.initial(w).astype(self.dtype)
        x = x.reshape(len(w), _FIRST, _FIRST, self.block_out_channels[0])
        image = jnp.zeros((), jnp.float32)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            if index:
                x, image = _doubled(x), _doubled(image)
            of_block = (
                None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, index)
            )
            x, rgb = block(x, w, of_block, heard)
            image = image + (fade * rgb if index == last and index else rgb)
        return image


class _Block(nn.Module):
    """Two convolutions at one resolution, and what they add to the picture."""

    channels: int
    out_channels: int
    modulation: str
    noise: bool
    dtype: Any
    listens: bool = False

    @nn.compact
    def __call__(self, x, w, keys, heard=None):
        if self.listens:
            x = self._listen(x, *heard)
        conv = StyleConv if self.modulation == "style" else FiLMConv
        for index in range(2):
            x = conv(self.channels, dtype=self.dtype, name=f"conv_{index}")(x, w)
            if self.noise:
                strength = self.param(f"noise_{index}", nn.initializers.zeros_init(), ())
                if keys is not None:
                    x = x + (strength * _noise(keys, index, x.shape[1:3])).astype(self.dtype)
            x = nn.leaky_relu(x, _SLOPE) * jnp.asarray(2**0.5, self.dtype)
        rgb = StyleConv(self.out_channels, 1, demodulate=False, name="rgb")
        return x, rgb(x.astype(jnp.float32), w)

    def _listen(self, x, states, mask):
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)
        told = Attention(_HEADS, dtype=self.dtype, name="listen")
        tokens = tokens + told(layer_norm("listen_norm", 1e-6, self.dtype)(tokens), states, mask)
        return tokens.reshape(b, h, w, c)


def _of_unit_size(x):
    """Rows of mean square 1."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-8)


def _noise(keys, index, shape):
    """[b, h, w, 1]: a sample's noise is its own, whatever stands beside it in the batch."""

    def one(key):
        return jax.random.normal(jax.random.fold_in(key, index), (*shape, 1))

    return jax.vmap(one)(keys)


def _doubled(x):
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")
