"""The KL autoencoder of latent diffusion (arXiv:2112.10752): images to latents and back."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt

from gen_jax.common.errors import UserError
from gen_jax.models.layers.activations import get_activation
from gen_jax.models.layers.attention import SpatialAttention
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.norms import GroupNorm
from gen_jax.models.layers.resnet import ResnetBlock2D
from gen_jax.models.layers.sampling import Downsample2D, Upsample2D

# Every normalisation in the autoencoder has this epsilon; it is no field in diffusers.
_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class _Common:
    """What all blocks of one autoencoder share."""

    norm_num_groups: int
    act_fn: str
    remat: bool
    attention_implementation: str | None
    dtype: Any

    def resnet(self, features: int, name: str) -> nn.Module:
        cls = nn.remat(ResnetBlock2D) if self.remat else ResnetBlock2D
        return cls(
            features,
            norm_num_groups=self.norm_num_groups,
            norm_eps=_EPS,
            act_fn=self.act_fn,
            dtype=self.dtype,
            name=name,
        )

    def conv(self, features: int, size: int, name: str) -> nn.Module:
        return Conv(features, (size, size), padding=size // 2, dtype=self.dtype, name=name)


class _Block(nn.Module):
    """Residual blocks, then a halving or a doubling of the map, or neither."""

    features: int
    num_layers: int
    common: _Common
    downsample: bool = False
    upsample: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.num_layers):
            x = self.common.resnet(self.features, f"resnets_{i}")(x)
        dtype = self.common.dtype
        if self.downsample:
            x = Downsample2D(self.features, padding=0, dtype=dtype, name="downsamplers_0")(x)
        if self.upsample:
            x = Upsample2D(self.features, dtype=dtype, name="upsamplers_0")(x)
        return x


class _MidBlock(nn.Module):
    features: int
    add_attention: bool
    common: _Common

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.common.resnet(self.features, "resnets_0")(x)
        if self.add_attention:
            cls = nn.remat(SpatialAttention) if self.common.remat else SpatialAttention
            x = cls(
                heads=1,
                norm_num_groups=self.common.norm_num_groups,
                norm_eps=_EPS,
                attention_implementation=self.common.attention_implementation,
                dtype=self.common.dtype,
                name="attentions_0",
            )(x)
        return self.common.resnet(self.features, "resnets_1")(x)


class Encoder(nn.Module):
    """Image -> moments of the latent, before `quant_conv`."""

    out_features: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    mid_block_add_attention: bool
    common: _Common

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        channels, common = self.block_out_channels, self.common
        x = common.conv(channels[0], 3, "conv_in")(x)
        for i, features in enumerate(channels):
            x = _Block(
                features,
                self.layers_per_block,
                common,
                downsample=i < len(channels) - 1,
                name=f"down_blocks_{i}",
            )(x)
        x = _MidBlock(channels[-1], self.mid_block_add_attention, common, name="mid_block")(x)
        x = GroupNorm(common.norm_num_groups, _EPS, common.dtype, name="conv_norm_out")(x)
        return common.conv(self.out_features, 3, "conv_out")(jax.nn.silu(x))


class Decoder(nn.Module):
    """Latent, after `post_quant_conv`, -> image."""

    out_features: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    mid_block_add_attention: bool
    common: _Common

    @nn.compact
    def __call__(self, z: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        channels, common = self.block_out_channels[::-1], self.common
        x = common.conv(channels[0], 3, "conv_in")(z)
        x = _MidBlock(channels[0], self.mid_block_add_attention, common, name="mid_block")(x)
        for i, features in enumerate(channels):
            x = _Block(
                features,
                self.layers_per_block + 1,
                common,
                upsample=i < len(channels) - 1,
                name=f"up_blocks_{i}",
            )(x)
        x = GroupNorm(common.norm_num_groups, _EPS, common.dtype, name="conv_norm_out")(x)
        return common.conv(self.out_features, 3, "conv_out")(jax.nn.silu(x))


class AutoencoderKL(nn.Module):
    """diffusers' `AutoencoderKL`, NHWC, images in [-1, 1]; parameter paths are its keys.

    `encode` and `decode` speak raw latents: `gen_jax.tasks.first_stage` scales them for
    a diffusion model. Parameters are float32, and so are all results.

    Attributes:
      in_channels, out_channels: of the image.
      block_out_channels: channels from the finest level to the coarsest; the latent is
        smaller than the image by 2 ** (levels - 1).
      layers_per_block: residual blocks a level of the encoder (the decoder has one more).
      latent_channels: channels of the latent.
      norm_num_groups, act_fn: of the residual blocks.
      sample_size: size it was trained at; for pipelines, any size is taken.
      scaling_factor, shift_factor: (z - shift) * scale has about unit variance.
      use_quant_conv, use_post_quant_conv: 1x1 convolutions around the latent.
      mid_block_add_attention: one head of attention at the coarsest level.
      force_upcast: kept for the config file; a compute dtype is chosen by `dtype`.
      remat: recompute blocks in the backward pass.
      attention_implementation: None, "xla" or "cudnn" for `jax.nn.dot_product_attention`.
      dtype: compute dtype; norms and softmax are float32 in any case.
      source: what the weights were loaded from, for a faithful save; no part of equality.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    act_fn: str = "silu"
    sample_size: int | tuple[int, int] = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    force_upcast: bool = True
    remat: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32
    source: Any = dataclasses.field(default=None, compare=False, repr=False)

    def setup(self):
        get_activation(self.act_fn)
        common = _Common(
            norm_num_groups=self.norm_num_groups,
            act_fn=self.act_fn,
            remat=self.remat,
            attention_implementation=self.attention_implementation,
            dtype=jnp.dtype(self.dtype),
        )
        shape = {
            "block_out_channels": tuple(self.block_out_channels),
            "layers_per_block": self.layers_per_block,
            "mid_block_add_attention": self.mid_block_add_attention,
            "common": common,
        }
        self.encoder = Encoder(2 * self.latent_channels, **shape)
        self.decoder = Decoder(self.out_channels, **shape)
        if self.use_quant_conv:
            self.quant_conv = Conv(2 * self.latent_channels, (1, 1), dtype=common.dtype)
        if self.use_post_quant_conv:
            self.post_quant_conv = Conv(self.latent_channels, (1, 1), dtype=common.dtype)

    @property
    def downscale_factor(self) -> int:
        """Image size over latent size."""
        return 2 ** (len(self.block_out_channels) - 1)

    def encode(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h2 w2 z"], Float[Array, "b h2 w2 z"]]:
        """Mean and log variance (within [-30, 20]) of the latent of images in [-1, 1]."""
        if x.shape[-1] != self.in_channels:
            raise UserError(
                f"the autoencoder's image has {x.shape[-1]} channels, its in_channels is "
                f"{self.in_channels}: check the layout (NHWC) and the colours"
            )
        moments = self.encoder(x)
        if self.use_quant_conv:
            moments = self.quant_conv(moments)
        mean, logvar = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, z: Float[Array, "b h w z"]) -> Float[Array, "b h2 w2 c"]:
        """Images, about [-1, 1] and not clipped, of raw latents."""
        if z.shape[-1] != self.latent_channels:
            raise UserError(
                f"the latent has {z.shape[-1]} channels, the autoencoder's latent_channels is "
                f"{self.latent_channels}: check the layout (NHWC) and which autoencoder it is"
            )
        if self.use_post_quant_conv:
            z = self.post_quant_conv(z)
        return self.decoder(z).astype(jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        rng: Key[Array, ""] | UInt[Array, "2"] | None = None,
    ) -> tuple[Float[Array, "b h3 w3 c3"], Float[Array, "b h2 w2 z"], Float[Array, "b h2 w2 z"]]:
        """Reconstruction, mean and log variance; samples the latent where a key is given."""
        mean, logvar = self.encode(x)
        z = mean
        if rng is not None:
            z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(rng, mean.shape)
        return self.decode(z), mean, logvar

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shapes that `init` takes."""
        size = self.downscale_factor
        return (jnp.zeros((batch_size, size, size, self.in_channels)),)
