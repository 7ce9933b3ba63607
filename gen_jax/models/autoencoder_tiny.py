"""A tiny convolutional autoencoder for the latents of big ones (TAESD, TAEF1, TAEF2).

Architecture: https://github.com/madebyollin/taesd, as `AutoencoderTiny` in diffusers. It is
distilled from a big autoencoder, shares its latent space and is good for previews.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt

from gen_jax.common.errors import UserError
from gen_jax.models.layers.activations import get_activation
from gen_jax.models.layers.norms import GroupNorm
from gen_jax.models.layers.sampling import upsample_nearest

# The encoder is deterministic: its Gaussian has next to no width.
_LOGVAR = -30.0


def _conv(features: int, name: str, dtype: Any, bias: bool = True, stride: int = 1) -> nn.Conv:
    """A 3x3 convolution padded by one pixel on each side, torch's way for any stride."""
    return nn.Conv(
        features,
        (3, 3),
        strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        use_bias=bias,
        dtype=dtype,
        name=name,
    )


class TinyBlock(nn.Module):
    """Three convolutions and a residual; names are places in the original's sequences.

    Attributes:
      features: channels.
      act_fn: activation between the convolutions (the one at the end is always ReLU).
      use_midblock_gn: first add a 1x1, group norm, 1x1 branch, which sees the whole map.
      dtype: compute dtype.
    """

    features: int
    act_fn: str = "relu"
    use_midblock_gn: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        act, width = get_activation(self.act_fn), x.shape[-1]
        if self.use_midblock_gn:
            one = {"kernel_size": (1, 1), "use_bias": False, "dtype": self.dtype}
            y = nn.Conv(4 * width, **one, name="pool_0")(x)
            y = jax.nn.relu(GroupNorm(4, 1e-5, self.dtype, name="pool_1")(y))
            x = x + nn.Conv(width, **one, name="pool_3")(y)
        y = act(_conv(self.features, "conv_0", self.dtype)(x))
        y = act(_conv(self.features, "conv_2", self.dtype)(y))
        y = _conv(self.features, "conv_4", self.dtype)(y)
        if width != self.features:
            x = nn.Conv(self.features, (1, 1), use_bias=False, dtype=self.dtype, name="skip")(x)
        return jax.nn.relu(y + x)


class EncoderTiny(nn.Module):
    """Image in [0, 1] -> latent; each stage after the first halves the size."""

    out_features: int
    block_out_channels: tuple[int, ...]
    num_blocks: tuple[int, ...]
    act_fn: str
    use_midblock_gn: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 z"]:
        place, last = 0, len(self.num_blocks) - 1
        for i, (features, count) in enumerate(zip(self.block_out_channels, self.num_blocks)):
            first, gn = i == 0, self.use_midblock_gn and i == last
            stride = 1 if first else 2
            x = _conv(features, f"layers_{place}", self.dtype, bias=first, stride=stride)(x)
            place += 1
            for _ in range(count):
                x = TinyBlock(features, self.act_fn, gn, self.dtype, name=f"layers_{place}")(x)
                place += 1
        return _conv(self.out_features, f"layers_{place}", self.dtype)(x)


class DecoderTiny(nn.Module):
    """Latent -> image in about [0, 1]; each stage but the last doubles the size."""

    out_features: int
    block_out_channels: tuple[int, ...]
    num_blocks: tuple[int, ...]
    act_fn: str
    use_midblock_gn: bool
    dtype: Any

    @nn.compact
    def __call__(self, z: Float[Array, "b h w z"]) -> Float[Array, "b h2 w2 c"]:
        x = 3 * jnp.tanh(z / 3)  # latents beyond +-3 were never seen in its training
        x = _conv(self.block_out_channels[0], "layers_0", self.dtype)(x)
        x = get_activation(self.act_fn)(x)
        place, last = 2, len(self.num_blocks) - 1  # the activation has a place as well
        for i, (features, count) in enumerate(zip(self.block_out_channels, self.num_blocks)):
            gn = self.use_midblock_gn and i == 0
            for _ in range(count):
                x = TinyBlock(features, self.act_fn, gn, self.dtype, name=f"layers_{place}")(x)
                place += 1
            if i == last:
                return _conv(self.out_features, f"layers_{place}", self.dtype)(x)
            x = upsample_nearest(x)
            x = _conv(features, f"layers_{place + 1}", self.dtype, bias=False)(x)
            place += 2


class AutoencoderTiny(nn.Module):
    """diffusers' `AutoencoderTiny`, NHWC, images in [-1, 1]; parameter paths are its keys.

    Attributes:
      in_channels, out_channels: of the image.
      encoder_block_out_channels, decoder_block_out_channels: channels a stage.
      act_fn: activation in the blocks.
      latent_channels: channels of the latent.
      num_encoder_blocks, num_decoder_blocks: residual blocks a stage; each stage after the
        first halves (doubles) the size.
      latent_magnitude, latent_shift: map latents into [0, 1] for storage as pixels.
      scaling_factor, shift_factor: (z - shift) * scale has about unit variance.
      force_upcast: kept for the config file.
      use_midblock_gn: TAEF2's blocks at the coarsest stage (no field in diffusers).
      dtype: compute dtype.
      source: what the weights were loaded from, for a faithful save; no part of equality.
    """

    in_channels: int = 3
    out_channels: int = 3
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    act_fn: str = "relu"
    latent_channels: int = 4
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    latent_magnitude: float | int = 3
    latent_shift: float = 0.5
    scaling_factor: float = 1.0
    shift_factor: float | None = 0.0
    force_upcast: bool = False
    use_midblock_gn: bool = False
    dtype: Any = jnp.float32
    source: Any = dataclasses.field(default=None, compare=False, repr=False)

    def setup(self):
        for part in ("encoder", "decoder"):
            blocks = getattr(self, f"num_{part}_blocks")
            channels = getattr(self, f"{part}_block_out_channels")
            if len(blocks) != len(channels):
                raise UserError(
                    f"AutoencoderTiny.num_{part}_blocks={blocks}: expected one entry for each "
                    f"of {part}_block_out_channels={channels}"
                )
        shared = {
            "act_fn": self.act_fn,
            "use_midblock_gn": self.use_midblock_gn,
            "dtype": jnp.dtype(self.dtype),
        }
        self.encoder = EncoderTiny(
            self.latent_channels, self.encoder_block_out_channels, self.num_encoder_blocks, **shared
        )
        self.decoder = DecoderTiny(
            self.out_channels, self.decoder_block_out_channels, self.num_decoder_blocks, **shared
        )

    @property
    def downscale_factor(self) -> int:
        """Image size over latent size."""
        return 2 ** (len(self.num_encoder_blocks) - 1)

    def encode(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h2 w2 z"], Float[Array, "b h2 w2 z"]]:
        """Latent of images in [-1, 1], and a log variance of -30 throughout."""
        mean = self.encoder((x + 1) / 2).astype(jnp.float32)
        return mean, jnp.full_like(mean, _LOGVAR)

    def decode(self, z: Float[Array, "b h w z"]) -> Float[Array, "b h2 w2 c"]:
        """Images, about [-1, 1] and not clipped, of raw latents."""
        return 2 * self.decoder(z).astype(jnp.float32) - 1

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        rng: Key[Array, ""] | UInt[Array, "2"] | None = None,
    ) -> tuple[Float[Array, "b h3 w3 c3"], Float[Array, "b h2 w2 z"], Float[Array, "b h2 w2 z"]]:
        """Reconstruction, mean and log variance; `rng` is taken for the contract's sake."""
        mean, logvar = self.encode(x)
        return self.decode(mean), mean, logvar

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shapes that `init` takes."""
        size = self.downscale_factor
        return (jnp.zeros((batch_size, size, size, self.in_channels)),)
