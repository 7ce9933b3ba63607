"""An autoregressive caption decoder that cross-attends to latents (arXiv:1706.03762)."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gen_jax.common.errors import UserError
from gen_jax.models.layers.heads import attend
from gen_jax.models.layers.norms import layer_norm

_NORMAL = nn.initializers.normal


@flax.struct.dataclass
class CaptionCache:
    """Keys and values [layers, b, n, heads, d] of the tokens so far."""

    key: Any
    value: Any


class CaptionBlock(nn.Module):
    """Causal self-attention, cross-attention to the latents and an MLP, pre-norm and residual.

    Attributes:
      width: Width of the tokens.
      num_heads: Attention heads, a divisor of the width.
      dropout: Dropout rate of each residual branch.
      dtype: Compute dtype; logits and softmax are float32.
    """

    width: int
    num_heads: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, latents, cache=None, index=None, deterministic: bool = True):
        """Maps tokens [b, t, c] to tokens; with a cache also returns its keys and values, t = 1."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        h = layer_norm("norm1", dtype=self.dtype)(x)
        q, k, v = (self._heads(name, h) for name in ("to_q", "to_k", "to_v"))
        if cache is None:
            h = attend(q, k, v, is_causal=True)
        else:
            k, v = (
                jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), index, axis=1)
                for old, new in zip(cache, (k, v), strict=True)
            )
            is_past = jnp.broadcast_to((jnp.arange(k.shape[1]) <= index)[None], k.shape[:2])
            h = attend(q, k, v, is_past)
        x = x + drop(self._joined("to_out", h))
        h = layer_norm("norm2", dtype=self.dtype)(x)
        q, key, value = (
            self._heads(name, y)
            for name, y in (("cross_q", h), ("cross_k", latents), ("cross_v", latents))
        )
        x = x + drop(self._joined("cross_out", attend(q, key, value)))
        h = layer_norm("norm3", dtype=self.dtype)(x)
        h = nn.gelu(nn.Dense(4 * self.width, dtype=self.dtype, name="fc1")(h))
        x = x + drop(nn.Dense(self.width, dtype=self.dtype, name="fc2")(h))
        return x if cache is None else (x, (k, v))

    def _heads(self, name, x):
        y = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name=name)(x)
        return y.reshape(*y.shape[:2], self.num_heads, self.width // self.num_heads)

    def _joined(self, name, x):
        return nn.Dense(self.width, dtype=self.dtype, name=name)(x.reshape(*x.shape[:2], -1))


class CaptionDecoder(nn.Module):
    """Logits of each token of a caption from the tokens before it and from latents.

    Attributes:
      vocab_size: Number of token ids.
      max_length: Longest caption in tokens.
      hidden_size: Width of the tokens.
      num_layers: Blocks.
      num_heads: Attention heads.
      dropout: Dropout rate in training.
      dtype: Compute dtype; parameters, softmax and logits are float32.
    """

    vocab_size: int = 2000
    max_length: int = 32
    hidden_size: int = 256
    num_layers: int = 3
    num_heads: int = 8
    dropout: float = 0.1
    dtype: Any = jnp.float32

    def setup(self):
        if self.hidden_size % self.num_heads:
            raise UserError(
                f"CaptionDecoder.num_heads={self.num_heads}: does not divide "
                f"hidden_size={self.hidden_size}"
            )
        self.token_embedding = nn.Embed(
            self.vocab_size, self.hidden_size, embedding_init=_NORMAL(1.0)
        )
        self.position_embedding = self.param(
            "position_embedding", _NORMAL(0.3), (self.max_length, self.hidden_size), jnp.float32
        )
        self.blocks = [
            CaptionBlock(self.hidden_size, self.num_heads, self.dropout, self.dtype)
            for _ in range(self.num_layers)
        ]
        self.final_norm = layer_norm("final_norm", dtype=self.dtype)
        self.head = nn.Dense(self.vocab_size, dtype=self.dtype)

    def __call__(
        self,
        tokens: Int[Array, "b n"],
        latents: Float[Array, "b m d"],
        deterministic: bool = True,
    ) -> Float[Array, "b n v"]:
        """Returns the logits of the token after each one.

        Args:
          tokens: Ids, the start token first.
          latents: What the caption describes, as a sequence of vectors.
          deterministic: Whether dropout is off; otherwise there is a stream "dropout".
        """
        position = self.position_embedding[None, : tokens.shape[1]]
        x = (self.token_embedding(tokens) + position).astype(self.dtype)
        for block in self.blocks:
            x = block(x, latents, None, None, deterministic)
        return self.head(self.final_norm(x)).astype(jnp.float32)

    def empty_cache(self, count: int) -> CaptionCache:
        """Returns the cache of `count` captions without a token."""
        heads = (self.num_heads, self.hidden_size // self.num_heads)
        shape = (self.num_layers, count, self.max_length, *heads)
        return CaptionCache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def step(
        self,
        tokens: Int[Array, " b"],
        index: Int[Array, ""],
        cache: CaptionCache,
        latents: Float[Array, "b m d"],
    ) -> tuple[Float[Array, "b v"], CaptionCache]:
        """Returns the logits of the token at `index + 1`, and the cache with that at `index`.

        Args:
          tokens: Ids at `index`.
          index: Their position; all before it are in the cache.
          cache: See `empty_cache`.
          latents: As in `__call__`.
        """
        position = jax.lax.dynamic_slice_in_dim(self.position_embedding, index, 1)
        x = (self.token_embedding(tokens[:, None]) + position[None]).astype(self.dtype)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            x, (k, v) = block(x, latents, (cache.key[layer], cache.value[layer]), index)
            keys.append(k)
            values.append(v)
        logits = self.head(self.final_norm(x))[:, 0].astype(jnp.float32)
        return logits, CaptionCache(jnp.stack(keys), jnp.stack(values))
