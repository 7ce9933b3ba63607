"""The UNet's down, middle and up blocks: residual blocks, each with or without attention."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.models.layers.attention import Transformer2DModel
from gen_jax.models.layers.resnet import ResnetBlock2D
from gen_jax.models.layers.sampling import Downsample2D, Upsample2D


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """What all blocks of one UNet share; the meanings are those of `UNet2DConditionModel`."""

    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    act_fn: str = "silu"
    dropout: float = 0.0
    use_linear_projection: bool = False
    downsample_padding: int = 1
    time_scale_shift: bool = False
    zero_init: bool = True
    remat: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    def resnet(self, features: int, name: str) -> nn.Module:
        """A residual block; its `deterministic` (argument 3, self being 0) is static."""
        cls = nn.remat(ResnetBlock2D, static_argnums=(3,)) if self.remat else ResnetBlock2D
        return cls(
            features,
            norm_num_groups=self.norm_num_groups,
            norm_eps=self.norm_eps,
            act_fn=self.act_fn,
            dropout=self.dropout,
            time_scale_shift=self.time_scale_shift,
            zero_init=self.zero_init,
            dtype=self.dtype,
            name=name,
        )

    def transformer(self, heads: int, num_layers: int, name: str) -> nn.Module:
        """A transformer over the positions of the map."""
        cls = nn.remat(Transformer2DModel) if self.remat else Transformer2DModel
        return cls(
            heads,
            num_layers=num_layers,
            use_linear_projection=self.use_linear_projection,
            norm_num_groups=self.norm_num_groups,
            zero_init=self.zero_init,
            attention_implementation=self.attention_implementation,
            dtype=self.dtype,
            name=name,
        )


def _layer(block: nn.Module, i: int, x, temb, context, mask, deterministic) -> jax.Array:
    """Residual block `i` of the (compact) `block` and, with heads, a transformer after it."""
    x = block.config.resnet(block.features, f"resnets_{i}")(x, temb, deterministic)
    if block.heads:
        x = block.config.transformer(block.heads, block.transformer_layers, f"attentions_{i}")(
            x, context, mask
        )
    return x


class DownBlock2D(nn.Module):
    """Residual blocks, then a halving.

    Attributes:
      features: channels of the block.
      num_layers: residual blocks.
      heads: attention heads; 0 for a block without attention.
      transformer_layers: transformer blocks after each residual block.
      downsample: halve at the end.
      config: what all blocks share.
    """

    features: int
    num_layers: int
    heads: int
    transformer_layers: int
    downsample: bool
    config: BlockConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        temb: Float[Array, "b t"],
        context: Float[Array, "b n d"],
        mask: Bool[Array, "b n"] | None,
        deterministic: bool,
    ) -> tuple[Float[Array, "b h2 w2 f"], tuple[jax.Array, ...]]:
        """The result, and the maps that the up blocks take up again, first made first."""
        skips = []
        for i in range(self.num_layers):
            x = _layer(self, i, x, temb, context, mask, deterministic)
            skips.append(x)
        if self.downsample:
            x = Downsample2D(
                self.features,
                padding=self.config.downsample_padding,
                dtype=self.config.dtype,
                name="downsamplers_0",
            )(x)
            skips.append(x)
        return x, tuple(skips)


class MidBlock2D(nn.Module):
    """A residual block and, with `heads`, a transformer and a second residual block."""

    features: int
    heads: int
    transformer_layers: int
    config: BlockConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        temb: Float[Array, "b t"],
        context: Float[Array, "b n d"],
        mask: Bool[Array, "b n"] | None,
        deterministic: bool,
    ) -> Float[Array, "b h w f"]:
        x = _layer(self, 0, x, temb, context, mask, deterministic)
        if self.heads:
            x = self.config.resnet(self.features, "resnets_1")(x, temb, deterministic)
        return x


class UpBlock2D(nn.Module):
    """Residual blocks, each fed one skip, then a doubling; attributes as `DownBlock2D`."""

    features: int
    num_layers: int
    heads: int
    transformer_layers: int
    upsample: bool
    config: BlockConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        skips: tuple[jax.Array, ...],
        size: tuple[int, int] | None,
        temb: Float[Array, "b t"],
        context: Float[Array, "b n d"],
        mask: Bool[Array, "b n"] | None,
        deterministic: bool,
    ) -> Float[Array, "b h2 w2 f"]:
        """Uses up `skips` from the last; `size` is what the doubling has to arrive at."""
        for i in range(self.num_layers):
            x = jnp.concatenate([x, skips[-1 - i]], axis=-1)
            x = _layer(self, i, x, temb, context, mask, deterministic)
        if self.upsample:
            x = Upsample2D(self.features, dtype=self.config.dtype, name="upsamplers_0")(x, size)
        return x
