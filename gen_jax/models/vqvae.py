"""Encoder and decoder of a VQ-VAE; the codes between them are the quantizer's."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from gen_jax.models.autoencoder_patch import ResidualBlock
from gen_jax.models.layers.attention import SpatialAttention
from gen_jax.models.layers.conditioning import FiLM, TextCrossAttention, masked_mean
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.norms import GroupNorm
from gen_jax.models.layers.sampling import Downsample2D, Upsample2D

_GROUPS = 8


class TextSteering(nn.Module):
    """FiLM by the text's mean and cross-attention to its tokens; the identity until trained."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], text: Float[Array, "b n d"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b h w c"]:
        mean = masked_mean(text, mask)
        x = FiLM(dtype=self.dtype, name="film")(x, mean)
        return TextCrossAttention(self.heads, dtype=self.dtype, name="cross")(x, text, mask)


class VQVAE(nn.Module):
    """Patches in, residual blocks at ever smaller sizes, and the way back (arXiv 1711.00937).

    The factor that the image shrinks by is patch_size * 2^(number of widths - 1). No layer but the
    head runs at the image's own size.

    Attributes:
      dim: channels of the latent, the quantizer's.
      in_channels: of the image.
      patch_size: side of the patches that the first blocks work on.
      block_out_channels: width of the blocks at each size, largest size first; multiples of 8.
      layers_per_block: residual blocks at each size on the way in.
      decoder_layers: on the way out.
      attention: whether the smallest size has self-attention.
      head_channels: between two convolutions at the image's own size, whose result is added to the
        patches: they see across the patches' borders. 0 for none; the identity until trained.
      text: whether the decoder hears a text at its smallest size.
      heads: of all attention.
      dtype: compute dtype; parameters are f32.
    """

    dim: int
    in_channels: int = 3
    patch_size: int = 4
    block_out_channels: tuple[int, ...] = (64, 128)
    layers_per_block: int = 1
    decoder_layers: int = 2
    attention: bool = False
    head_channels: int = 0
    text: bool = False
    heads: int = 4
    dtype: Any = jnp.float32

    def setup(self):
        widths, d = self.block_out_channels, self.dtype
        self.patch_in = nn.Dense(widths[0], dtype=d)
        self.encoder_blocks = self._blocks(self.layers_per_block)
        self.downs = [Downsample2D(w, dtype=d) for w in widths[1:]]
        self.encoder_norm = GroupNorm(_GROUPS, dtype=d)
        self.encoder_out = nn.Dense(self.dim, dtype=d)
        if self.attention:
            self.encoder_attention = SpatialAttention(self.heads, _GROUPS, dtype=d)
            self.decoder_attention = SpatialAttention(self.heads, _GROUPS, dtype=d)
        self.decoder_in = Conv(widths[-1], (3, 3), dtype=d)
        self.decoder_blocks = self._blocks(self.decoder_layers)
        self.ups = [Upsample2D(w, dtype=d) for w in widths[:-1]]
        self.decoder_norm = GroupNorm(_GROUPS, dtype=d)
        self.patch_out = Conv(self.in_channels * self.patch_size**2, (3, 3), dtype=d)
        if self.head_channels:
            zeros = nn.initializers.zeros
            self.head_in = Conv(self.head_channels, (3, 3), dtype=d)
            self.head_out = Conv(self.in_channels, (3, 3), kernel_init=zeros, dtype=d)
        if self.text:
            self.steering = [TextSteering(self.heads, d) for _ in range(self.decoder_layers)]

    def _blocks(self, count: int) -> list[list[nn.Module]]:
        """So many blocks at each size."""
        widths = self.block_out_channels
        return [[ResidualBlock(w, _GROUPS, self.dtype) for _ in range(count)] for w in widths]

    @property
    def downscale_factor(self) -> int:
        """Image side over latent side."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    def encode(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hl wl z"]:
        """Images in [-1, 1] to latents that are yet to be quantized."""
        p = self.patch_size
        h = self.patch_in(rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=p, q=p))
        for level, blocks in enumerate(self.encoder_blocks):
            if level:
                h = self.downs[level - 1](h)
            for block in blocks:
                h = block(h)
        if self.attention:
            h = self.encoder_attention(h)
        return self.encoder_out(nn.silu(self.encoder_norm(h))).astype(jnp.float32)

    def decode(
        self,
        z: Float[Array, "b hl wl z"],
        text: Float[Array, "b n d"] | None = None,
        mask: Bool[Array, "b n"] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Quantized latents to images in about [-1, 1].

        Args:
          z: latents.
          text: a state a token, where the decoder hears any; None passes it by.
          mask: True at tokens that count.
        """
        p, last = self.patch_size, len(self.block_out_channels) - 1
        h = self.decoder_in(z)
        if self.attention:
            h = self.decoder_attention(h)
        for level in range(last, -1, -1):
            for index, block in enumerate(self.decoder_blocks[level]):
                h = block(h)
                if level == last and text is not None:
                    h = self.steering[index](h, text, mask)
            if level:
                h = self.ups[level - 1](h)
        h = self.patch_out(nn.silu(self.decoder_norm(h)))
        image = rearrange(h, "b h w (p q c) -> b (h p) (w q) c", p=p, q=p)
        if self.head_channels:
            image = image + self.head_out(nn.silu(self.head_in(image)))
        return image.astype(jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        text: Float[Array, "b n d"] | None = None,
        mask: Bool[Array, "b n"] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Encodes and decodes without a quantizer: what parameters are made by."""
        return self.decode(self.encode(x), text, mask)
