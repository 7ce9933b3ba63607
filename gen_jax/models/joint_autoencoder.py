"""An image autoencoder with two latents: a small spatial one, and one pooled over the image."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from gen_jax.models.autoencoder_patch import ResidualBlock
from gen_jax.models.layers.conditioning import FiLM
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.norms import GroupNorm
from gen_jax.models.layers.sampling import Downsample2D, Upsample2D

_GROUPS = 8


class JointAutoencoder(nn.Module):
    """Patches in, residual blocks at ever smaller sizes, and the way back from both latents.

    The spatial latent says where things are, the pooled one what the image shows and its hand. Each
    latent has a mean square of 1 over all of its numbers, so that no loss on its size is needed
    before a flow can be trained on it.

    Attributes:
      channels: Channels of the images.
      spatial_channels: Channels of the spatial latent; 0 leaves the pooled latent alone.
      pooled_dim: Numbers of the pooled latent.
      context_dim: Width of the vectors that `context` gives.
      patch_size: Side of the patches that the first blocks work on, in pixels.
      block_out_channels: Width of the blocks at each size, largest size first; multiples of 8.
      layers_per_block: Residual blocks at each size of the encoder.
      decoder_layers: Residual blocks at each size of the decoder.
      dtype: Compute dtype; parameters and latents are float32.
    """

    channels: int = 1
    spatial_channels: int = 8
    pooled_dim: int = 256
    context_dim: int = 256
    patch_size: int = 4
    block_out_channels: tuple[int, ...] = (64, 128)
    layers_per_block: int = 1
    decoder_layers: int = 2
    dtype: Any = jnp.float32

    def setup(self):
        widths, dtype = self.block_out_channels, self.dtype
        self.patch_in = nn.Dense(widths[0], dtype=dtype)
        self.encoder_blocks = self._blocks(self.layers_per_block)
        self.downs = [Downsample2D(width, dtype=dtype) for width in widths[1:]]
        self.encoder_norm = GroupNorm(_GROUPS, dtype=dtype)
        self.pooled_in = nn.Dense(2 * self.pooled_dim, dtype=dtype)
        self.pooled_out = nn.Dense(self.pooled_dim, dtype=dtype)
        if self.spatial_channels:
            self.spatial_out = nn.Dense(self.spatial_channels, dtype=dtype)
            self.spatial_in = Conv(widths[-1], (3, 3), dtype=dtype)
        self.pooled_map = nn.Dense(widths[-1], dtype=dtype)
        self.films = [FiLM(dtype=dtype) for _ in widths]
        self.decoder_blocks = self._blocks(self.decoder_layers)
        self.ups = [Upsample2D(width, dtype=dtype) for width in widths[:-1]]
        self.decoder_norm = GroupNorm(_GROUPS, dtype=dtype)
        self.patch_out = Conv(self.channels * self.patch_size**2, (3, 3), dtype=dtype)
        self.context_pooled = nn.Dense(self.context_dim, dtype=dtype)
        if self.spatial_channels:
            self.context_spatial = Conv(self.context_dim, (3, 3), dtype=dtype)

    def _blocks(self, count: int) -> list[list[nn.Module]]:
        widths = self.block_out_channels
        return [[ResidualBlock(w, _GROUPS, self.dtype) for _ in range(count)] for w in widths]

    @property
    def downscale_factor(self) -> int:
        """Image side over the side of the spatial latent."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    def encode(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b hl wl z"], Float[Array, "b d"]]:
        """Returns the spatial and the pooled latent of images in [-1, 1]."""
        p = self.patch_size
        h = self.patch_in(rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=p, q=p))
        for level, blocks in enumerate(self.encoder_blocks):
            if level:
                h = self.downs[level - 1](h)
            for block in blocks:
                h = block(h)
        h = nn.silu(self.encoder_norm(h))
        places = nn.gelu(self.pooled_in(h))
        pooled = self.pooled_out(jnp.concatenate([places.mean((1, 2)), places.max((1, 2))], -1))
        spatial = self.spatial_out(h) if self.spatial_channels else h[..., :0]
        return unit_mean_square(spatial), unit_mean_square(pooled)

    def decode(
        self, spatial: Float[Array, "b hl wl z"], pooled: Float[Array, "b d"]
    ) -> Float[Array, "b h w c"]:
        """Returns images in about [-1, 1] from their latents."""
        p, pooled = self.patch_size, pooled.astype(self.dtype)
        shape = (*spatial.shape[:3], self.block_out_channels[-1])
        h = jnp.broadcast_to(self.pooled_map(pooled)[:, None, None], shape)
        if self.spatial_channels:
            h = h + self.spatial_in(spatial.astype(self.dtype))
        for level in reversed(range(len(self.block_out_channels))):
            h = self.films[level](h, pooled)
            for block in self.decoder_blocks[level]:
                h = block(h)
            if level:
                h = self.ups[level - 1](h)
        h = self.patch_out(nn.silu(self.decoder_norm(h)))
        image = rearrange(h, "b h w (p q c) -> b (h p) (w q) c", p=p, q=p)
        return image.astype(jnp.float32)

    def context(
        self, spatial: Float[Array, "b hl wl z"], pooled: Float[Array, "b d"]
    ) -> Float[Array, "b n c"]:
        """Returns the latents as a sequence that a caption decoder attends to, the pooled first."""
        sequence = self.context_pooled(pooled.astype(self.dtype))[:, None]
        if self.spatial_channels:
            places = self.context_spatial(spatial.astype(self.dtype))
            places = rearrange(places, "b h w c -> b (h w) c")
            sequence = jnp.concatenate([sequence, places], axis=1)
        return sequence

    def __call__(self, x: Float[Array, "b h w c"]):
        """Returns the decoded image and the context: every parameter takes part."""
        spatial, pooled = self.encode(x)
        return self.decode(spatial, pooled), self.context(spatial, pooled)


def unit_mean_square(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns float32 arrays [b, ...] whose numbers have a mean square of 1 in each example."""
    x = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim))
    mean = jnp.square(x).sum(axes, keepdims=True) / max(1, x[0].size)
    return x * jax.lax.rsqrt(mean + 1e-6)
