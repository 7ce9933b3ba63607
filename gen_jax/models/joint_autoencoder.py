"""An image autoencoder with two latents: a small spatial one, and one pooled over the image."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.models.autoencoder_patch import ResidualBlock
from gen_jax.models.layers.conditioning import FiLM
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.norms import GroupNorm
from gen_jax.models.layers.sampling import Downsample2D, Upsample2D

_GROUPS = 8
_SMALL = nn.initializers.normal(1e-3)


class JointAutoencoder(nn.Module):
    """Patches in, residual blocks at ever smaller sizes, and the way back from both latents.

    The spatial latent says where things are, the pooled one what the image shows and its hand. The
    pooled latent has a mean square of 1 over its numbers in each image. `size_loss` keeps that of
    each channel of the spatial one near 1, so that a flow can be trained on both.

    A linear way from the pixels of each place to its spatial latent, and one back, run beside the
    blocks, which learn what these two leave (as in arXiv:2410.10733). They begin as a cosine
    transform of the place and its inverse, low frequencies first, as JPEG has them.

    The pooled latent may also read features of the image from a pretrained encoder.

    Attributes:
      channels: Channels of the images.
      spatial_channels: Channels of the spatial latent; 0 leaves the pooled latent alone.
      pooled_dim: Numbers of the pooled latent.
      pooled_tokens: Vectors of the context that the pooled latent becomes, a divisor of its size.
      feature_dropout: Dropout rate of the pretrained features in training.
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
    pooled_tokens: int = 8
    feature_dropout: float = 0.3
    context_dim: int = 256
    patch_size: int = 4
    block_out_channels: tuple[int, ...] = (64, 128)
    layers_per_block: int = 1
    decoder_layers: int = 2
    dtype: Any = jnp.float32

    def setup(self):
        if self.pooled_dim % self.pooled_tokens:
            raise UserError(
                f"JointAutoencoder.pooled_tokens={self.pooled_tokens}: does not divide "
                f"pooled_dim={self.pooled_dim}"
            )
        widths, dtype = self.block_out_channels, self.dtype
        self.patch_in = nn.Dense(widths[0], dtype=dtype)
        self.encoder_blocks = self._blocks(self.layers_per_block)
        self.downs = [Downsample2D(width, dtype=dtype) for width in widths[1:]]
        self.encoder_norm = GroupNorm(_GROUPS, dtype=dtype)
        self.pooled_in = nn.Dense(2 * self.pooled_dim, dtype=dtype)
        self.feature_norm = nn.LayerNorm(use_fast_variance=False, dtype=dtype)
        self.feature_drop = nn.Dropout(self.feature_dropout)
        self.feature_in = nn.Dense(2 * self.pooled_dim, dtype=dtype)
        self.pooled_out = nn.Dense(self.pooled_dim, dtype=dtype)
        if self.spatial_channels:
            self.spatial_out = nn.Dense(self.spatial_channels, dtype=dtype, kernel_init=_SMALL)
            self.shortcut_in = nn.Dense(self.spatial_channels, dtype=dtype, kernel_init=_cosines)
            self.shortcut_out = nn.Dense(
                self.channels * self.downscale_factor**2, dtype=dtype, kernel_init=_cosines_back
            )
            self.spatial_in = Conv(widths[-1], (3, 3), dtype=dtype)
        self.pooled_map = nn.Dense(widths[-1], dtype=dtype)
        self.films = [FiLM(dtype=dtype) for _ in widths]
        self.decoder_blocks = self._blocks(self.decoder_layers)
        self.ups = [Upsample2D(width, dtype=dtype) for width in widths[:-1]]
        self.decoder_norm = GroupNorm(_GROUPS, dtype=dtype)
        self.patch_out = Conv(self.channels * self.patch_size**2, (3, 3), dtype=dtype)
        self.context_pooled = nn.Dense(self.context_dim, dtype=dtype)
        self.context_position = self.param(
            "context_position",
            nn.initializers.normal(0.3),
            (self.pooled_tokens, self.context_dim),
            jnp.float32,
        )
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
        self,
        x: Float[Array, "b h w c"],
        features: Float[Array, "b f"] | None = None,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "b hl wl z"], Float[Array, "b d"]]:
        """Returns the spatial and the pooled latent.

        Args:
          x: Images in [-1, 1].
          features: Features of the images from a pretrained encoder, which the pooled latent reads
            as well, or None.
          deterministic: Whether dropout is off; otherwise there is a stream "dropout".
        """
        h = self.patch_in(_patches(x, self.patch_size))
        for level, blocks in enumerate(self.encoder_blocks):
            if level:
                h = self.downs[level - 1](h)
            for block in blocks:
                h = block(h)
        h = nn.silu(self.encoder_norm(h))
        places = nn.gelu(self.pooled_in(h))
        summary = [places.mean((1, 2)), places.max((1, 2))]
        if features is not None:
            seen = self.feature_drop(self.feature_norm(features), deterministic=deterministic)
            summary.append(nn.gelu(self.feature_in(seen)))
        pooled = self.pooled_out(jnp.concatenate(summary, -1))
        spatial = h[..., :0]
        if self.spatial_channels:
            linear = self.shortcut_in(_patches(x, self.downscale_factor))
            spatial = self.spatial_out(h) + linear
        return spatial.astype(jnp.float32), unit_mean_square(pooled)

    def decode(
        self, spatial: Float[Array, "b hl wl z"], pooled: Float[Array, "b d"]
    ) -> Float[Array, "b h w c"]:
        """Returns images in about [-1, 1] from their latents."""
        pooled = pooled.astype(self.dtype)
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
        image = _pixels(self.patch_out(nn.silu(self.decoder_norm(h))), self.patch_size)
        if self.spatial_channels:
            linear = self.shortcut_out(spatial.astype(self.dtype))
            image = image + _pixels(linear, self.downscale_factor)
        return image.astype(jnp.float32)

    def context(
        self, spatial: Float[Array, "b hl wl z"], pooled: Float[Array, "b d"]
    ) -> Float[Array, "b n c"]:
        """Returns the latents as a sequence that a caption decoder attends to, the pooled first."""
        parts = pooled.astype(self.dtype).reshape(len(pooled), self.pooled_tokens, -1)
        sequence = self.context_pooled(parts) + self.context_position.astype(self.dtype)[None]
        if self.spatial_channels:
            places = self.context_spatial(spatial.astype(self.dtype))
            places = rearrange(places, "b h w c -> b (h w) c")
            sequence = jnp.concatenate([sequence, places], axis=1)
        return sequence

    def __call__(self, x: Float[Array, "b h w c"], features: Float[Array, "b f"] | None = None):
        """Returns the decoded image and the context: every parameter takes part."""
        spatial, pooled = self.encode(x, features)
        return self.decode(spatial, pooled), self.context(spatial, pooled)


def size_loss(spatial: Float[Array, "b h w z"]) -> Float[Array, ""]:
    """Returns how far the mean square of each channel over the batch is from 1, squared."""
    return jnp.square(jnp.square(spatial).mean((0, 1, 2)) - 1.0).mean()


def coarse_first(channels: int, pixels: int) -> np.ndarray:
    """Returns factors [channels] that give a spatial latent the spectrum of images again.

    With them, low frequencies are larger than high ones, so that a flow settles them first, as it
    does with pixels. The mean square of all factors is 1.

    Args:
      channels: Channels of the spatial latent.
      pixels: Pixels of a place.
    """
    if not channels:
        return np.ones(0, np.float32)
    _, size = _cosine_basis(pixels, channels)
    return (size / np.sqrt(np.square(size).mean())).astype(np.float32)


def _cosines(key, shape, dtype=jnp.float32):
    """Initializes [pixels, channels] as the lowest frequencies of a cosine transform (DCT-II)."""
    basis, size = _cosine_basis(*shape)
    return jnp.asarray(basis / size[None], dtype)


def _cosines_back(key, shape, dtype=jnp.float32):
    """Initializes [channels, pixels] as the inverse of `_cosines`."""
    basis, size = _cosine_basis(*shape[::-1])
    return jnp.asarray((basis * size[None]).T, dtype)


def _cosine_basis(pixels: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns orthonormal columns [pixels, channels], and the size of their coefficients.

    Pixels are a square of one channel; others get what a square of as many has. The sizes are those
    of images in [-1, 1], whose spectrum falls as 1 / frequency.
    """
    side = max(1, math.isqrt(pixels))
    k = np.arange(side)
    waves = np.cos(np.pi * (k[:, None] + 0.5) * k[None] / side) * np.sqrt(2.0 / side)
    waves[:, 0] /= np.sqrt(2.0)
    rows, columns = np.meshgrid(k, k, indexing="ij")
    frequency = np.hypot(rows, columns).ravel()
    order = np.argsort(frequency, kind="stable")[:channels]
    basis = np.zeros((pixels, channels))
    chosen = np.einsum("ik,jl->ijkl", waves, waves).reshape(side**2, side**2)[:, order]
    basis[: side**2, : len(order)] = chosen
    size = np.full(channels, 1.0)
    size[: len(order)] = 0.35 * side / (1.0 + 2.0 * frequency[order])
    return basis, size


def _patches(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b h2 w2 d"]:
    return rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=side, q=side)


def _pixels(x: Float[Array, "b h w d"], side: int) -> Float[Array, "b h2 w2 c"]:
    return rearrange(x, "b h w (p q c) -> b (h p) (w q) c", p=side, q=side)


def unit_mean_square(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns float32 arrays [b, ...] whose numbers have a mean square of 1 in each example."""
    x = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim))
    mean = jnp.square(x).sum(axes, keepdims=True) / max(1, x[0].size)
    return x * jax.lax.rsqrt(mean + 1e-6)
