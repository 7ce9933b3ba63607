"""A transformer over codes, conditioned on text: what both priors are made of."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gen_jax.common.errors import UserError
from gen_jax.models.layers.conditioning import FiLM, TextCrossAttention, masked_mean
from gen_jax.models.layers.heads import attend
from gen_jax.models.layers.norms import layer_norm
from gen_jax.models.quantizers.nearest import sums_by_code

_NORMAL = nn.initializers.normal


@flax.struct.dataclass
class Cache:
    """Keys and values `[layers, b, n, heads, d]` of the tokens so far."""

    key: Any
    value: Any


class TokenBlock(nn.Module):
    """Self-attention, attention to the text and an MLP, each normalised first and residual.

    The text's mean and what is told of the whole scale and shift the tokens (FiLM), the text's
    tokens are attended to; both are the identity until trained.
    """

    num_heads: int
    is_causal: bool
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, text, mask, whole, cache=None, index=None, deterministic: bool = True):
        """Tokens [b, t, c] to tokens; with a cache (a key and a value) also that, t being 1."""
        b, t, width = x.shape
        heads = (b, t, self.num_heads, width // self.num_heads)
        h = layer_norm("norm1", dtype=self.dtype)(x)
        h = _as_map(FiLM(dtype=self.dtype, name="film"), h, whole)
        q, k, v = (
            nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(h).reshape(heads)
            for name in ("to_q", "to_k", "to_v")
        )
        if cache is None:
            h = attend(q, k, v, is_causal=self.is_causal)
        else:
            k, v = (
                jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), index, axis=1)
                for old, new in zip(cache, (k, v), strict=True)
            )
            seen = jnp.broadcast_to((jnp.arange(k.shape[1]) <= index)[None], k.shape[:2])
            h = attend(q, k, v, seen)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        out = nn.Dense(width, dtype=self.dtype, name="to_out")(h.reshape(b, t, width))
        x = x + drop(out)
        cross = TextCrossAttention(self.num_heads, dtype=self.dtype, name="cross")
        x = _as_map(cross, x, text, mask)
        h = layer_norm("norm2", dtype=self.dtype)(x)
        h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name="fc1")(h))
        x = x + drop(nn.Dense(width, dtype=self.dtype, name="fc2")(h))
        return x if cache is None else (x, (k, v))


@jax.custom_vjp
def _rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of a table, whose gradient is a sum by matrix products.

    The gradient of indexing is a scatter: where most ids are the hidden one, as here, an
    accelerator adds thousands of rows into one, one after the other, in no fixed order.
    """
    return table[ids]


def _rows_forward(table, ids):
    return table[ids], (ids, table)


def _rows_backward(saved, g):
    ids, table = saved
    flat = g.reshape(-1, g.shape[-1]).astype(jnp.float32)
    _, sums = sums_by_code(flat, ids.reshape(-1), len(table))
    return sums.astype(table.dtype), None


_rows.defvjp(_rows_forward, _rows_backward)


class CodeEmbedding(nn.Module):
    """A learnt vector for each of `count` ids."""

    count: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        table = self.param("embedding", _NORMAL(0.3), (self.count, self.features), jnp.float32)
        return _rows(table, ids).astype(self.dtype)


def _as_map(layer, x, *args):
    """A layer of feature maps on a sequence: a map of one row."""
    return layer(x[:, None], *args)[:, 0]


class TokenTransformer(nn.Module):
    """Logits of codes from codes: of hidden ones from all others, or of each from those before it.

    Attributes:
      num_codes: values of a code; the id `num_codes` is one that hides, or that begins.
      grid: rows, columns and depth of an image's codes; in this order they are a sequence.
      hidden_size: width.
      num_layers: blocks.
      num_heads: attention heads.
      is_causal: whether a token sees only those before it.
      dropout: of what blocks add, in training.
      remat: recompute blocks in the backward pass.
      dtype: compute dtype; parameters, softmax and logits are f32.
    """

    num_codes: int
    grid: tuple[int, int, int]
    hidden_size: int = 192
    num_layers: int = 4
    num_heads: int = 4
    is_causal: bool = False
    dropout: float = 0.1
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        if self.hidden_size % self.num_heads:
            raise UserError(
                f"config.task.prior.num_heads={self.num_heads}: does not divide "
                f"hidden_size={self.hidden_size}"
            )
        width, (rows, columns, depth) = self.hidden_size, self.grid
        self.code_embedding = CodeEmbedding(self.num_codes + 1, width, dtype=self.dtype)
        for name, count in (("row", rows), ("column", columns), ("depth", depth)):
            setattr(self, f"{name}_embedding", self.param(
                f"{name}_embedding", _NORMAL(0.3), (count, width), jnp.float32
            ))  # fmt: skip
        block = TokenBlock
        if self.remat:
            block = nn.remat(TokenBlock, static_argnums=(7,))
        self.blocks = [
            block(self.num_heads, self.is_causal, self.dropout, self.dtype)
            for _ in range(self.num_layers)
        ]
        self.style = nn.Dense(width)
        self.final_norm = layer_norm("final_norm", dtype=self.dtype)
        self.head = nn.Dense(self.num_codes, dtype=self.dtype)

    @property
    def length(self) -> int:
        """Codes of an image."""
        rows, columns, depth = self.grid
        return rows * columns * depth

    def _positions(self):
        row, column, depth = self.row_embedding, self.column_embedding, self.depth_embedding
        places = row[:, None, None] + column[None, :, None] + depth[None, None]
        return places.reshape(self.length, -1)

    def _whole(self, text, mask, style):
        """What every place is told: the text's mean, and the style where there is one."""
        mean = masked_mean(text, mask)
        return mean if style is None else jnp.concatenate([mean, self.style(style)], -1)

    def __call__(
        self,
        ids: Int[Array, "b n"],
        text: Float[Array, "b t d"],
        mask: Bool[Array, "b t"],
        deterministic: bool = True,
        style: Float[Array, "b s"] | None = None,
    ) -> Float[Array, "b n k"]:
        """Logits at every place.

        Args:
          ids: codes, `num_codes` where one is hidden. If causal, of each place the code BEFORE it,
            the first being `num_codes`.
          text: a state a token.
          mask: True at tokens of the text that count.
          deterministic: without dropout; else the stream "dropout" is drawn from.
          style: of the whole, for a transformer that is always given one; zeros where unknown.
        """
        x = self.code_embedding(ids) + self._positions()[None].astype(self.dtype)
        whole = self._whole(text, mask, style)
        for block in self.blocks:
            x = block(x, text, mask, whole, None, None, deterministic)
        return self.head(self.final_norm(x)).astype(jnp.float32)

    def empty_cache(self, count: int) -> Cache:
        """The cache of `count` sequences without a token."""
        heads = self.num_heads
        shape = (self.num_layers, count, self.length, heads, self.hidden_size // heads)
        return Cache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def step(
        self,
        ids: Int[Array, "b"],
        index: Int[Array, ""],
        cache: Cache,
        text: Float[Array, "b t d"],
        mask: Bool[Array, "b t"],
        style: Float[Array, "b s"] | None = None,
    ) -> tuple[Float[Array, "b k"], Cache]:
        """Logits at one place of a causal transformer, everything before it being in the cache.

        Args:
          ids: the codes before that place.
          index: of the place.
          cache: see `empty_cache`.
          text: a state a token.
          mask: True at tokens of the text that count.
          style: see `__call__`.
        """
        place = jax.lax.dynamic_slice_in_dim(self._positions(), index, 1)
        x = self.code_embedding(ids[:, None]) + place[None].astype(self.dtype)
        whole = self._whole(text, mask, style)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            x, (k, v) = block(x, text, mask, whole, (cache.key[layer], cache.value[layer]), index)
            keys.append(k)
            values.append(v)
        logits = self.head(self.final_norm(x))[:, 0].astype(jnp.float32)
        return logits, Cache(jnp.stack(keys), jnp.stack(values))
