"""What the frozen transformer towers share: self-attention, the MLPs, the two kinds of block.

The names of the submodules are the same in every tower; each tower's `Port` leads from them
to the names in the published files.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.common.errors import UserError
from gen_jax.models.layers.activations import get_activation
from gen_jax.models.layers.heads import attend
from gen_jax.models.layers.norms import layer_norm


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases; logits and softmax are float32.

    Attributes:
      num_heads: heads; they divide the width.
      qkv_bias: biases of query, key and value.
      is_causal: a token attends to itself and to what is before it.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype; parameters are float32.
    """

    num_heads: int
    qkv_bias: bool = True
    is_causal: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "b n"] | None = None
    ) -> Float[Array, "b n c"]:
        """Attends; `mask` is True at the tokens that may be attended to."""
        b, n, c = x.shape
        if c % self.num_heads:
            raise UserError(f"num_attention_heads={self.num_heads} does not divide hidden_size={c}")

        def project(name: str) -> jax.Array:
            y = nn.Dense(c, use_bias=self.qkv_bias, dtype=self.dtype, name=name)(x)
            return y.reshape(b, n, self.num_heads, c // self.num_heads)

        y = attend(
            project("query"),
            project("key"),
            project("value"),
            mask,
            is_causal=self.is_causal,
            implementation=self.attention_implementation,
        )
        return nn.Dense(c, dtype=self.dtype, name="out")(y.reshape(b, n, c))


class MLP(nn.Module):
    """Dense, activation, dense.

    Attributes:
      intermediate_size: width between the layers.
      hidden_act: name of the activation.
      dtype: compute dtype.
    """

    intermediate_size: int
    hidden_act: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        y = nn.Dense(self.intermediate_size, dtype=self.dtype, name="fc1")(x)
        y = get_activation(self.hidden_act)(y)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


class SwiGLU(nn.Module):
    """Gated MLP with SiLU (arXiv:2002.05202); the gate is the first half of `weights_in`.

    Attributes:
      intermediate_size: width of the product.
      dtype: compute dtype.
    """

    intermediate_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        y = nn.Dense(2 * self.intermediate_size, dtype=self.dtype, name="weights_in")(x)
        gate, value = jnp.split(y, 2, axis=-1)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="weights_out")(nn.silu(gate) * value)


class PreNormBlock(nn.Module):
    """Attention and MLP, each on the normalised states and added to them (arXiv:2002.04745).

    Attributes:
      num_heads, qkv_bias, is_causal, attention_implementation: of the attention.
      intermediate_size, hidden_act: of the MLP.
      swiglu: a `SwiGLU` instead of the MLP.
      layer_scale: a learnt factor a channel on both branches (arXiv:2103.17239).
      layer_norm_eps: added to the variance.
      dtype: compute dtype.
    """

    num_heads: int
    intermediate_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    is_causal: bool = False
    swiglu: bool = False
    layer_scale: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "b n"] | None = None
    ) -> Float[Array, "b n c"]:
        y = layer_norm("norm1", self.layer_norm_eps, self.dtype)(x)
        y = SelfAttention(
            self.num_heads,
            self.qkv_bias,
            self.is_causal,
            self.attention_implementation,
            self.dtype,
            name="attention",
        )(y, mask)
        x = x + self._scaled("layer_scale1", y)
        y = layer_norm("norm2", self.layer_norm_eps, self.dtype)(x)
        if self.swiglu:
            y = SwiGLU(self.intermediate_size, self.dtype, name="mlp")(y)
        else:
            y = MLP(self.intermediate_size, self.hidden_act, self.dtype, name="mlp")(y)
        return x + self._scaled("layer_scale2", y)

    def _scaled(self, name: str, y: jax.Array) -> jax.Array:
        if not self.layer_scale:
            return y
        factor = self.param(name, nn.initializers.ones_init(), (y.shape[-1],), jnp.float32)
        return y * factor.astype(self.dtype)[None, None, :]


class PostNormBlock(nn.Module):
    """Attention and MLP, each added to its input and normalised then (arXiv:1706.03762).

    Attributes:
      num_heads, attention_implementation: of the attention.
      intermediate_size, hidden_act: of the MLP.
      layer_norm_eps: added to the variance.
      dtype: compute dtype.
    """

    num_heads: int
    intermediate_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "b n"] | None = None
    ) -> Float[Array, "b n c"]:
        y = SelfAttention(
            self.num_heads,
            attention_implementation=self.attention_implementation,
            dtype=self.dtype,
            name="attention",
        )(x, mask)
        x = layer_norm("norm1", self.layer_norm_eps, self.dtype)(x + y)
        y = MLP(self.intermediate_size, self.hidden_act, self.dtype, name="mlp")(x)
        return layer_norm("norm2", self.layer_norm_eps, self.dtype)(x + y)
