"""A small autoencoder for laptops: it folds patches into channels and works at low resolution.

Wide layers at low resolution are what a CPU does well; no layer runs at the image's own size.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.norms import GroupNorm


class ResidualBlock(nn.Module):
    """Normalise, SiLU, 3x3 convolution, twice; starts as the identity."""

    channels: int
    norm_num_groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        h = x
        for index, init in ((1, nn.initializers.lecun_normal()), (2, nn.initializers.zeros)):
            h = GroupNorm(self.norm_num_groups, dtype=self.dtype, name=f"norm{index}")(h)
            h = Conv(
                self.channels, (3, 3), kernel_init=init, dtype=self.dtype, name=f"conv{index}"
            )(nn.silu(h))
        return x + h


class AutoencoderPatch(nn.Module):
    """Patches in, residual blocks on the grid, patches out.

    Attributes:
      in_channels: of the image.
      patch_size: side of a patch, and so the factor that the image shrinks by.
      channels: width of the blocks.
      encoder_layers: blocks between the patches and the latent.
      decoder_layers: blocks between the latent and the patches.
      latent_channels: channels of the latent.
      dtype: compute dtype; parameters are f32.
    """

    in_channels: int = 3
    patch_size: int = 4
    channels: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 4
    latent_channels: int = 4
    dtype: Any = jnp.float32

    def setup(self):
        self.patch_in = nn.Dense(self.channels, dtype=self.dtype)
        self.encoder_blocks = self._blocks(self.encoder_layers)
        self.encoder_out = nn.Dense(2 * self.latent_channels, dtype=self.dtype)
        self.decoder_in = Conv(self.channels, (3, 3), dtype=self.dtype)
        self.decoder_blocks = self._blocks(self.decoder_layers)
        self.decoder_norm = GroupNorm(8, dtype=self.dtype)
        self.patch_out = Conv(self.in_channels * self.patch_size**2, (3, 3), dtype=self.dtype)

    def _blocks(self, count: int) -> Sequence[nn.Module]:
        return [ResidualBlock(self.channels, dtype=self.dtype) for _ in range(count)]

    @property
    def downscale_factor(self) -> int:
        """Image side over latent side."""
        return self.patch_size

    def encode(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b hl wl z"], Float[Array, "b hl wl z"]]:
        """Images in [-1, 1] to the latent's mean and log variance."""
        p = self.patch_size
        h = self.patch_in(rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=p, q=p))
        for block in self.encoder_blocks:
            h = block(h)
        mean, logvar = jnp.split(self.encoder_out(h).astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, z: Float[Array, "b hl wl z"]) -> Float[Array, "b h w c"]:
        """Latents to images in about [-1, 1]."""
        p = self.patch_size
        h = self.decoder_in(z)
        for block in self.decoder_blocks:
            h = block(h)
        h = self.patch_out(nn.silu(self.decoder_norm(h)))
        image = rearrange(h, "b h w (p q c) -> b (h p) (w q) c", p=p, q=p)
        return image.astype(jnp.float32)

    def __call__(self, x: Float[Array, "b h w c"], rng: jax.Array):
        """Encodes, draws a latent and decodes: `(reconstruction, mean, logvar)`."""
        mean, logvar = self.encode(x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(rng, mean.shape)
        return self.decode(z), mean, logvar
