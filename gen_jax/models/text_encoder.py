"""A compact transformer over word pieces, trained together with what it conditions."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class TextBlock(nn.Module):
    """Pre-norm self-attention and MLP (arXiv 2002.04745)."""

    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], mask: Bool[Array, "b 1 n n"]
    ) -> Float[Array, "b n d"]:
        width = x.shape[-1]
        norm = {"use_fast_variance": False}
        h = nn.LayerNorm(**norm, name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.num_heads, dtype=self.dtype, force_fp32_for_softmax=True, name="attention"
        )(h, mask=mask)
        h = nn.LayerNorm(**norm, name="norm2")(x)
        h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name="fc1")(h))
        return x + nn.Dense(width, dtype=self.dtype, name="fc2")(h)


class CompactTextEncoder(nn.Module):
    """Token ids to one state a token.

    Attributes:
      vocab_size: rows of the embedding; ids of the tokenizer are below it.
      max_length: positions.
      hidden_size: width of the states.
      num_layers: transformer blocks.
      num_heads: attention heads.
      dtype: compute dtype; parameters are f32.
    """

    vocab_size: int = 1024
    max_length: int = 32
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b n"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b n d"]:
        """Encodes.

        Args:
          tokens: ids.
          mask: True at real tokens, False at padding, which nothing attends to.
        """
        # Of unit size, so that an optimizer with steps of one size for all (Adam) turns a word
        # into another in hundreds of steps and not in ten.
        normal = nn.initializers.normal
        x = nn.Embed(
            self.vocab_size, self.hidden_size, embedding_init=normal(1.0), name="token_embedding"
        )(tokens)
        position = self.param(
            "position_embedding", normal(0.3), (self.max_length, self.hidden_size), jnp.float32
        )
        x = (x + position[None, : tokens.shape[1]]).astype(self.dtype)
        attend = jnp.broadcast_to(
            mask[:, None, None, :], (*mask.shape[:1], 1, *([mask.shape[1]] * 2))
        )
        for index in range(self.num_layers):
            x = TextBlock(self.num_heads, dtype=self.dtype, name=f"blocks_{index}")(x, attend)
        return nn.LayerNorm(use_fast_variance=False, name="final_norm")(x).astype(jnp.float32)
