"""The text-conditioned UNet of Stable Diffusion 1 and 2 (arXiv:2112.10752)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from gen_jax.common.errors import UserError
from gen_jax.models.layers.activations import get_activation
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.embeddings import TimestepEmbedding, timestep_embedding
from gen_jax.models.layers.norms import GroupNorm
from gen_jax.models.layers.unet_blocks import BlockConfig, DownBlock2D, MidBlock2D, UpBlock2D

_HAS_ATTENTION = {
    "CrossAttnDownBlock2D": True,
    "DownBlock2D": False,
    "UNetMidBlock2DCrossAttn": True,
    "UNetMidBlock2D": False,
    "CrossAttnUpBlock2D": True,
    "UpBlock2D": False,
}


class UNet2DConditionModel(nn.Module):
    """diffusers' `UNet2DConditionModel`, NHWC; parameter paths are diffusers' keys.

    `down_blocks.0.resnets.0.conv1.weight` there is `down_blocks_0/resnets_0/conv1/kernel`
    here. Parameters are float32.

    Attributes:
      sample_size: height and width it was trained at; for pipelines, any size is taken.
      in_channels, out_channels: of the sample.
      flip_sin_to_cos, freq_shift: of the time embedding.
      down_block_types: `CrossAttnDownBlock2D` or `DownBlock2D`, from the finest.
      mid_block_type: `UNetMidBlock2DCrossAttn`, `UNetMidBlock2D` or None.
      up_block_types: `CrossAttnUpBlock2D` or `UpBlock2D`, from the coarsest.
      block_out_channels: channels from the finest level to the coarsest.
      layers_per_block: residual blocks a down block (an up block has one more).
      downsample_padding: 1, or 0 for bottom and right only.
      dropout: rate in the residual blocks.
      act_fn, norm_num_groups, norm_eps: of the residual blocks and the way out.
      cross_attention_dim: size of `encoder_hidden_states`' last axis.
      transformer_layers_per_block: transformer blocks in each attention, or one a level.
      attention_head_dim: the NUMBER of heads, or one a level: diffusers' configs carry the
        wrong name since their beginning (8 for SD 1, (5, 10, 20, 20) for SD 2).
      use_linear_projection: dense layers around the transformers (SD 2).
      class_embed_type: None, or "projection" for a vector (`class_labels`, of
        `projection_class_embeddings_input_dim` numbers) that joins the time embedding.
      resnet_time_scale_shift: "default" adds the time embedding in residual blocks,
        "scale_shift" modulates the second norm with it (arXiv:2105.05233).
      zero_init: residual branches and the output start at zero; has no part in a loaded model.
      remat: recompute residual blocks and transformers in the backward pass.
      attention_implementation: None, "xla" or "cudnn" for `jax.nn.dot_product_attention`.
      dtype: compute dtype; norms and softmax are float32 in any case, and so is the result.
      source: what the weights were loaded from, for a faithful save; no part of equality.
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 4
    out_channels: int = 4
    flip_sin_to_cos: bool = True
    freq_shift: int | float = 0
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int | tuple[int, ...] = 2
    downsample_padding: int = 1
    dropout: float | int = 0.0
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8
    use_linear_projection: bool = False
    class_embed_type: str | None = None
    projection_class_embeddings_input_dim: int | None = None
    resnet_time_scale_shift: str = "default"
    zero_init: bool = True
    remat: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32
    source: Any = dataclasses.field(default=None, compare=False, repr=False)

    @nn.compact
    def __call__(
        self,
        sample: Float[Array, "b h w c"],
        timesteps: Num[Array, "b"],
        encoder_hidden_states: Float[Array, "b n d"],
        encoder_attention_mask: Bool[Array, "b n"] | None = None,
        class_labels: Float[Array, "b e"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "b h w c_out"]:
        """Predicts eps, v or x0, whichever it was trained for.

        Args:
          sample: noisy latents, scaled to unit variance.
          timesteps: one a sample, whole or fractional.
          encoder_hidden_states: text states; `d` is `cross_attention_dim`.
          encoder_attention_mask: True where a text state takes part; None for all.
          class_labels: the vector that `class_embed_type="projection"` asks for.
          deterministic: False applies dropout (needs the rng stream "dropout").
        """
        levels = len(self.block_out_channels)
        self._check(sample, encoder_hidden_states, class_labels)
        config = self._block_config()
        dtype, channels = config.dtype, self.block_out_channels
        heads = _per_level(self.attention_head_dim, levels, "attention_head_dim")
        layers = _per_level(self.layers_per_block, levels, "layers_per_block")
        depths = _per_level(
            self.transformer_layers_per_block, levels, "transformer_layers_per_block"
        )
        shared = (encoder_hidden_states.astype(dtype), encoder_attention_mask, deterministic)

        temb = timestep_embedding(
            timesteps,
            channels[0],
            flip_sin_to_cos=self.flip_sin_to_cos,
            freq_shift=float(self.freq_shift),
        )
        temb = TimestepEmbedding(4 * channels[0], self.act_fn, dtype=dtype, name="time_embedding")(
            temb.astype(dtype)
        )
        if self.class_embed_type is not None:
            temb += TimestepEmbedding(
                4 * channels[0], zero_init=self.zero_init, dtype=dtype, name="class_embedding"
            )(class_labels.astype(dtype))

        x = Conv(channels[0], (3, 3), padding=1, dtype=dtype, name="conv_in")(sample)
        skips = [x]
        for i, kind in enumerate(self.down_block_types):
            x, made = DownBlock2D(
                features=channels[i],
                num_layers=layers[i],
                heads=heads[i] if _HAS_ATTENTION[kind] else 0,
                transformer_layers=depths[i],
                downsample=i < levels - 1,
                config=config,
                name=f"down_blocks_{i}",
            )(x, temb, *shared)
            skips.extend(made)

        if self.mid_block_type is not None:
            x = MidBlock2D(
                features=channels[-1],
                heads=heads[-1] if _HAS_ATTENTION[self.mid_block_type] else 0,
                transformer_layers=depths[-1],
                config=config,
                name="mid_block",
            )(x, temb, *shared)

        for i, kind in enumerate(self.up_block_types):
            level = levels - 1 - i
            count = layers[level] + 1
            used, skips = tuple(skips[-count:]), skips[:-count]
            x = UpBlock2D(
                features=channels[level],
                num_layers=count,
                heads=heads[level] if _HAS_ATTENTION[kind] else 0,
                transformer_layers=depths[level],
                upsample=level > 0,
                config=config,
                name=f"up_blocks_{i}",
            )(x, used, skips[-1].shape[1:3] if skips else None, temb, *shared)

        x = GroupNorm(self.norm_num_groups, self.norm_eps, dtype, name="conv_norm_out")(x)
        x = get_activation(self.act_fn)(x)
        init = nn.initializers.zeros_init() if self.zero_init else nn.initializers.lecun_normal()
        x = Conv(
            self.out_channels, (3, 3), padding=1, kernel_init=init, dtype=dtype, name="conv_out"
        )(x)
        return x.astype(jnp.float32)

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array | None, ...]:
        """Zeros of the smallest shapes that `init` takes."""
        size = 2 ** (len(self.block_out_channels) - 1)
        return (
            jnp.zeros((batch_size, size, size, self.in_channels)),
            jnp.zeros((batch_size,), jnp.int32),
            jnp.zeros((batch_size, 1, self.cross_attention_dim)),
            None,
            self.class_embed_type
            and jnp.zeros((batch_size, self.projection_class_embeddings_input_dim or 0)),
        )

    def _block_config(self) -> BlockConfig:
        return BlockConfig(
            norm_num_groups=self.norm_num_groups,
            norm_eps=self.norm_eps,
            act_fn=self.act_fn,
            dropout=float(self.dropout),
            use_linear_projection=self.use_linear_projection,
            downsample_padding=self.downsample_padding,
            time_scale_shift=self.resnet_time_scale_shift == "scale_shift",
            zero_init=self.zero_init,
            remat=self.remat,
            attention_implementation=self.attention_implementation,
            dtype=jnp.dtype(self.dtype),
        )

    def _check(self, sample: jax.Array, context: jax.Array, class_labels: jax.Array | None) -> None:
        """Says what is wrong with a config or an input before XLA says it badly."""
        levels = len(self.block_out_channels)
        for field, prefix in (("down_block_types", "Down"), ("up_block_types", "Up")):
            kinds = getattr(self, field)
            known = (f"CrossAttn{prefix}Block2D", f"{prefix}Block2D")
            if len(kinds) != levels or any(k not in known for k in kinds):
                raise UserError(
                    f"UNet2DConditionModel.{field}={kinds}: expected {levels} entries (one for "
                    f"each of block_out_channels) out of {known[0]}, {known[1]}"
                )
        if self.mid_block_type not in (None, "UNetMidBlock2DCrossAttn", "UNetMidBlock2D"):
            raise UserError(
                f"UNet2DConditionModel.mid_block_type={self.mid_block_type!r}: expected "
                "UNetMidBlock2DCrossAttn, UNetMidBlock2D or None"
            )
        if self.class_embed_type not in (None, "projection"):
            raise UserError(
                f"UNet2DConditionModel.class_embed_type={self.class_embed_type!r}: expected "
                "projection or None"
            )
        if self.resnet_time_scale_shift not in ("default", "scale_shift"):
            raise UserError(
                "UNet2DConditionModel.resnet_time_scale_shift="
                f"{self.resnet_time_scale_shift!r}: expected default or scale_shift"
            )
        expected = self.class_embed_type and self.projection_class_embeddings_input_dim
        given = None if class_labels is None else class_labels.shape[-1]
        if given != expected:
            raise UserError(
                f"the UNet's class_labels have {given} features: with class_embed_type="
                f"{self.class_embed_type!r} projection_class_embeddings_input_dim={expected}"
            )
        if sample.shape[-1] != self.in_channels:
            raise UserError(
                f"the UNet's sample has {sample.shape[-1]} channels, its in_channels is "
                f"{self.in_channels}: check the layout (NHWC) and the latent channels"
            )
        if context.shape[-1] != self.cross_attention_dim:
            raise UserError(
                f"encoder_hidden_states have {context.shape[-1]} features, the UNet's "
                f"cross_attention_dim is {self.cross_attention_dim}: match it to the text tower"
            )


def _per_level(value: int | tuple[int, ...], levels: int, field: str) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * levels
    if len(value) != levels:
        raise UserError(
            f"UNet2DConditionModel.{field}={tuple(value)}: expected one number, or {levels} "
            "(one for each of block_out_channels)"
        )
    return tuple(value)
