"""Attention over feature maps: the autoencoder's, and the UNet's text-conditioned one."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.common.errors import UserError
from gen_jax.models.layers.activations import gelu
from gen_jax.models.layers.heads import attend, attention_weights
from gen_jax.models.layers.norms import GroupNorm, layer_norm


def _attend(
    module: nn.Module,
    x: jax.Array,
    context: jax.Array,
    mask: jax.Array | None,
    *,
    heads: int,
    use_bias: bool,
) -> jax.Array:
    """Multi-head attention whose projections become submodules of the (compact) `module`.

    The logits and the softmax are float32 whatever the compute dtype is. Where "intermediates" are
    asked for, "weights" [b, heads, n, m] are among them: which tokens each place looks at.
    """
    features = x.shape[-1]
    if features % heads:
        raise UserError(
            f"{heads} attention heads do not divide {features} channels: in diffusers' configs "
            "attention_head_dim is the NUMBER of heads, choose a divisor of block_out_channels"
        )

    def project(name: str, y: jax.Array) -> jax.Array:
        y = nn.Dense(features, use_bias=use_bias, dtype=module.dtype, name=name)(y)
        return y.reshape(*y.shape[:2], heads, features // heads)

    q, k, v = project("to_q", x), project("to_k", context), project("to_v", context)
    if module.is_mutable_collection("intermediates"):
        module.sow("intermediates", "weights", attention_weights(q, k, mask))
    out = attend(q, k, v, mask, implementation=module.attention_implementation)
    return nn.Dense(features, dtype=module.dtype, name="to_out_0")(out.reshape(x.shape))


class SpatialAttention(nn.Module):
    """Group norm, self-attention over all positions, residual (the autoencoder's middle).

    Attributes:
      heads: number of heads.
      norm_num_groups, norm_eps: of the group norm.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype.
    """

    heads: int = 1
    norm_num_groups: int = 32
    norm_eps: float = 1e-6
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        y = GroupNorm(self.norm_num_groups, self.norm_eps, self.dtype, name="group_norm")(x)
        y = y.reshape(b, h * w, c)
        y = _attend(self, y, y, None, heads=self.heads, use_bias=True)
        return x + y.reshape(b, h, w, c)


class Attention(nn.Module):
    """Self- or cross-attention over a sequence; no bias but on the way out.

    Attributes:
      heads: number of heads.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype.
    """

    heads: int
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t c"],
        context: Float[Array, "b s d"] | None = None,
        mask: Bool[Array, "b s"] | None = None,
    ) -> Float[Array, "b t c"]:
        """Attends from `x` to `context` (to itself where none); `mask` is True where kept."""
        context = x if context is None else context
        return _attend(self, x, context, mask, heads=self.heads, use_bias=False)


class GEGLU(nn.Module):
    """Gated linear unit with the exact GELU (arXiv:2002.05202)."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b t d"]:
        x = nn.Dense(2 * self.features, dtype=self.dtype, name="proj")(x)
        value, gate = jnp.split(x, 2, axis=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width and back."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
        h = GEGLU(4 * x.shape[-1], dtype=self.dtype, name="net_0")(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="net_2")(h)


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each normalised first and residual."""

    heads: int
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t c"],
        context: Float[Array, "b s d"],
        mask: Bool[Array, "b s"] | None = None,
    ) -> Float[Array, "b t c"]:
        options = {
            "heads": self.heads,
            "attention_implementation": self.attention_implementation,
            "dtype": self.dtype,
        }
        y = layer_norm("norm1", dtype=self.dtype)(x)
        x = x + Attention(**options, name="attn1")(y)
        y = layer_norm("norm2", dtype=self.dtype)(x)
        x = x + Attention(**options, name="attn2")(y, context, mask)
        y = layer_norm("norm3", dtype=self.dtype)(x)
        return x + FeedForward(dtype=self.dtype, name="ff")(y)


class Transformer2DModel(nn.Module):
    """Transformer blocks over the positions of a feature map, with a residual around them.

    Attributes:
      heads: number of heads.
      num_layers: transformer blocks.
      use_linear_projection: dense layers in and out (SD 2); else 1x1 convolutions (SD 1),
        which are the same arithmetic under another parameter shape.
      norm_num_groups: of the group norm at the door (its epsilon is always 1e-6).
      zero_init: start the projection out at zero.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype.
    """

    heads: int
    num_layers: int = 1
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    zero_init: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        context: Float[Array, "b s d"],
        mask: Bool[Array, "b s"] | None = None,
    ) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        y = GroupNorm(self.norm_num_groups, 1e-6, self.dtype, name="norm")(x)
        y = self._project("proj_in", y, nn.initializers.lecun_normal()).reshape(b, h * w, c)
        for i in range(self.num_layers):
            y = BasicTransformerBlock(
                self.heads,
                self.attention_implementation,
                self.dtype,
                name=f"transformer_blocks_{i}",
            )(y, context, mask)
        init = nn.initializers.zeros_init() if self.zero_init else nn.initializers.lecun_normal()
        return x + self._project("proj_out", y.reshape(b, h, w, c), init)

    def _project(self, name: str, x: jax.Array, init: Any) -> jax.Array:
        if self.use_linear_projection:
            return nn.Dense(x.shape[-1], kernel_init=init, dtype=self.dtype, name=name)(x)
        return nn.Conv(x.shape[-1], (1, 1), kernel_init=init, dtype=self.dtype, name=name)(x)
