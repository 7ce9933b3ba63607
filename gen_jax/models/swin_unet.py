"""A UNet of convolutions and Swin blocks that restores images, conditioned on an instruction.

Residual convolutions (EDSR, arXiv:1707.02921) alternate with windowed attention (Swin,
arXiv:2103.14030) where the resolution is low, which is where a CPU is fast too. Every block is
conditioned on the strengths of the degradations by FiLM; body and decoder are conditioned on the
text by FiLM and cross-attention, whose contribution a gate scales.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.common.errors import UserError
from gen_jax.models.ffdnet import depth_to_space, space_to_depth
from gen_jax.models.layers.conditioning import FiLM, TextCrossAttention, masked_mean
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.patch_conv import TORCH_INIT, DownConv, UpConv
from gen_jax.models.layers.swin_block import SwinBlock
from gen_jax.models.restoration import RestorationNetwork, RestorationOutput

SKIPS = ("add", "concat", "none")
GATES = ("none", "global", "block")
TEXT = ("film", "cross")
PLACES = ("body", "decoder")


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with FiLM and ReLU between them, residual.

    Attributes:
      residual_scale: Factor of the residual branch.
      zero_init: Whether the branch is zero at initialization.
      dtype: Compute dtype.
    """

    residual_scale: float = 1.0
    zero_init: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b d"]
    ) -> Float[Array, "b h w c"]:
        width = x.shape[-1]
        y = Conv(width, (3, 3), kernel_init=TORCH_INIT, dtype=self.dtype, name="conv_0")(x)
        y = jax.nn.relu(FiLM(self.dtype, name="film")(y, embedding))
        last = nn.initializers.zeros if self.zero_init else TORCH_INIT
        y = Conv(width, (3, 3), kernel_init=last, dtype=self.dtype, name="conv_1")(y)
        return x + self.residual_scale * y


class SwinUNet(RestorationNetwork):
    """Restores images of any size, conditioned on the strengths of their degradations.

    Super-resolution is this network on the enlarged image, conditioned on the factor, so that one
    head serves all factors.

    Attributes:
      in_channels, out_channels: Channels of the images; equal if `residual`.
      block_out_channels: Channels at 1/2, 1/4, 1/8, ... of the size.
      depths: Blocks of each level of the encoder, of the body, and of each level of the decoder.
      attention_levels: Levels at which a Swin block follows each convolution block.
      head_dim: Channels of an attention head, a divisor of the channels at those levels.
      window_size: Side of a window, in pixels of the level.
      mlp_ratio: Width of the MLP of the Swin blocks over that of the level.
      skip: How encoder and decoder features are joined: "add", "concat" or "none".
      residual: Whether the network predicts the difference to the degraded image.
      residual_scale: Factor of the residual branches of the blocks.
      embed_dim: Width of the embedding of the degradation.
      text: How the text conditions: some of "film" and "cross"; empty without text.
      text_stages: Where the text conditions: "body" (the lowest resolution), "decoder" or both.
      gate: What scales the text's contribution and the residual: "none" (nothing), "global" (one
        gate per image) or "block" (one per stage), computed from the degradation.
      zero_init: Whether the convolution blocks are the identity at initialization, so that a
        network with more of them than `init_from` begins with its outputs.
      remat: Whether blocks are computed again in the backward pass.
      dtype: Compute dtype; parameters, norms, softmax and the image are float32.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (48, 96, 160)
    depths: tuple[int, ...] = (2, 2, 3, 2, 2)
    attention_levels: tuple[int, ...] = (1, 2)
    head_dim: int = 32
    window_size: int = 4
    mlp_ratio: int = 2
    skip: str = "add"
    residual: bool = True
    residual_scale: float = 1.0
    embed_dim: int = 128
    text: tuple[str, ...] = ()
    text_stages: tuple[str, ...] = PLACES
    gate: str = "block"
    zero_init: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def conditions(self) -> tuple[str, ...]:
        """The degradation and, if it is conditioned on text, "text"."""
        return ("degradation", "text") if self.text else ("degradation",)

    def restore(self, x, conditions, deterministic=True):
        text = (conditions["text"], conditions["text_mask"]) if self.text else ()
        return RestorationOutput(*self(x, conditions["degradation"], *text))

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        told: Float[Array, "b p"],
        text: Float[Array, "b n d"] | None = None,
        mask: Bool[Array, "b n"] | None = None,
    ) -> tuple[Float[Array, "b h w e"], Float[Array, "b gates"]]:
        """Restores images.

        Args:
          x: Images in about [0, 1] of any size: the last row and column are repeated to a multiple
            of the windows, and the result is cropped.
          told: Strengths of the degradations, 0 to about 1 each.
          text: States of the tokens, if `text` is not empty.
          mask: True at real tokens.

        Returns:
          Images, float32, not clipped, and the gates in [0, 1]: for "block" those of the stages
          that are conditioned on text, in order, then the residual's; one for "global"; ones for
          "none".
        """
        self._check(text)
        height, width = x.shape[1:3]
        levels = len(self.block_out_channels)
        multiple = self.window_size * 2**levels
        pads = [(0, -side % multiple) for side in (height, width)]
        whole = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge").astype(jnp.float32)

        told = jnp.concatenate([told, jnp.sqrt(jnp.maximum(told, 0.0) + 1e-4)], -1)
        quality = nn.Dense(self.embed_dim, dtype=self.dtype, name="told_0")(told)
        quality = nn.Dense(self.embed_dim, dtype=self.dtype, name="told_1")(jax.nn.silu(quality))
        gates = self._gates(told)
        instruction = None
        if "film" in self.text:
            pooled = masked_mean(text, mask).astype(self.dtype)
            instruction = nn.Dense(self.embed_dim, dtype=self.dtype, name="text_proj")(pooled)
        block = nn.remat(ConvBlock) if self.remat else ConvBlock
        swin = nn.remat(SwinBlock, static_argnums=(2,)) if self.remat else SwinBlock
        place = 0

        def stage(x, name, depth, level, part="encoder"):
            nonlocal place
            embedding = quality
            if self.text and part in self.text_stages:
                strength = gates[:, min(place, gates.shape[1] - 1)]
                place += 1
                if instruction is not None:
                    embedding = quality + strength[:, None].astype(self.dtype) * instruction
                if "cross" in self.text and level in (0, levels - 1):
                    heads = max(1, x.shape[-1] // self.head_dim)
                    cross = TextCrossAttention(heads, self.dtype, name=f"{name}_cross")
                    x = cross(x, text, mask, strength)
            for i in range(depth):
                x = block(self.residual_scale, self.zero_init, self.dtype, name=f"{name}_{i}")(
                    x, embedding
                )
                if level in self.attention_levels:
                    x = swin(
                        x.shape[-1] // self.head_dim,
                        self.window_size,
                        self.window_size // 2 if i % 2 else 0,
                        0.0,
                        self.dtype,
                        self.mlp_ratio,
                        "relu",
                        self.residual_scale,
                        name=f"{name}_{i}_swin",
                    )(x, True)
            return x

        first = self.block_out_channels[0]
        y = space_to_depth(whole).astype(self.dtype)
        y = Conv(first, (3, 3), kernel_init=TORCH_INIT, dtype=self.dtype, name="head")(y)
        skips = []
        for level in range(levels - 1):
            y = stage(y, f"down_{level}", self.depths[level], level)
            skips.append(y)
            y = DownConv(self.block_out_channels[level + 1], self.dtype, name=f"shrink_{level}")(y)
        y = stage(y, "body", self.depths[levels - 1], levels - 1, "body")
        for level in reversed(range(levels - 1)):
            channels = self.block_out_channels[level]
            y = self._joined(UpConv(channels, self.dtype, name=f"grow_{level}")(y), skips[level])
            if self.skip == "concat":
                y = Conv(channels, (1, 1), dtype=self.dtype, name=f"join_{level}")(y)
            y = stage(y, f"up_{level}", self.depths[2 * levels - 2 - level], level, "decoder")
        y = Conv(
            4 * self.out_channels, (3, 3), kernel_init=TORCH_INIT, dtype=self.dtype, name="tail"
        )(y)
        y = depth_to_space(y.astype(jnp.float32))
        if self.residual:
            y = whole + gates[:, -1, None, None, None] * y
        return y[:, :height, :width], gates

    def _joined(self, y, skip):
        if self.skip == "concat":
            return jnp.concatenate([y, skip], -1)
        return y + skip if self.skip == "add" else y

    def _gates(self, told):
        if self.gate == "none":
            return jnp.ones((told.shape[0], 1), jnp.float32)
        levels = {"body": 1, "decoder": len(self.block_out_channels) - 1}
        places = sum(levels[part] for part in self.text_stages) if self.text else 0
        count = 1 if self.gate == "global" else places + 1
        y = jax.nn.silu(nn.Dense(32, name="gate_0")(told))
        return jax.nn.sigmoid(nn.Dense(count, name="gate_1")(y))

    def _check(self, text) -> None:
        levels = len(self.block_out_channels)
        if len(self.depths) != 2 * levels - 1:
            raise UserError(
                f"SwinUNet.depths={self.depths}: expected {2 * levels - 1} entries for "
                f"{levels} block_out_channels: down, the body, up"
            )
        for level in self.attention_levels:
            if not 0 <= level < levels:
                raise UserError(f"SwinUNet.attention_levels: {level} is not in 0..{levels - 1}")
            if self.block_out_channels[level] % self.head_dim:
                raise UserError(
                    f"SwinUNet.head_dim={self.head_dim} does not divide the "
                    f"{self.block_out_channels[level]} channels of level {level}"
                )
        for name, value, known in (("skip", self.skip, SKIPS), ("gate", self.gate, GATES)):
            if value not in known:
                raise UserError(f"SwinUNet.{name}={value!r}: expected one of {', '.join(known)}")
        for name, known in (("text", TEXT), ("text_stages", PLACES)):
            if unknown := set(getattr(self, name)) - set(known):
                known = ", ".join(known)
                raise UserError(f"SwinUNet.{name}: {sorted(unknown)[0]!r} is none of {known}")
        if self.residual and self.in_channels != self.out_channels:
            raise UserError("SwinUNet: a residual needs in_channels equal to out_channels")
        if self.text and text is None:
            raise UserError("SwinUNet.text is set, but no text was given")
