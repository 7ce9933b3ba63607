"""BERT (arXiv:1810.04805) and DistilBERT (arXiv:1910.01108) encoders, and sentence embeddings.

Sentence embeddings as sentence-transformers' all-MiniLM-L6-v2 makes them: the mean over the
real tokens, normalised. Poolers and heads in a file are left out.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gen_jax.common.errors import UserError
from gen_jax.encoders.hf_config import check_model_type, check_values, take
from gen_jax.encoders.transformer import PostNormBlock
from gen_jax.encoders.weights import Port
from gen_jax.models.layers.conditioning import masked_mean
from gen_jax.models.layers.norms import layer_norm

_EMBEDDINGS = (
    (r"^(word|position|token_type)_embeddings\.", r"embeddings.\1_embeddings."),
    (r"^norm\.", "embeddings.LayerNorm."),
)
# Files that began in TensorFlow, such as bert-base-uncased, have its names in the norms.
_NORMS = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))

BERT = Port(
    rename=(
        *_EMBEDDINGS,
        (r"\.attention\.(query|key|value)\.", r".attention.self.\1."),
        (r"\.attention\.out\.", ".attention.output.dense."),
        (r"\.norm1\.", ".attention.output.LayerNorm."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
        (r"\.norm2\.", ".output.LayerNorm."),
        (r"^blocks\.", "encoder.layer."),
    ),
    aliases=((r"^bert\.", ""), *_NORMS),
    ignore=(
        r"^(bert\.)?pooler\.",
        r"^(cls|classifier|qa_outputs)\.",
        r"embeddings\.(position_ids|token_type_ids)$",
    ),
)

DISTILBERT = Port(
    rename=(
        *_EMBEDDINGS,
        (r"\.attention\.query\.", ".attention.q_lin."),
        (r"\.attention\.key\.", ".attention.k_lin."),
        (r"\.attention\.value\.", ".attention.v_lin."),
        (r"\.attention\.out\.", ".attention.out_lin."),
        (r"\.norm1\.", ".sa_layer_norm."),
        (r"\.mlp\.fc(\d)\.", r".ffn.lin\1."),
        (r"\.norm2\.", ".output_layer_norm."),
        (r"^blocks\.", "transformer.layer."),
    ),
    aliases=((r"^distilbert\.", ""), *_NORMS),
    ignore=(
        r"^vocab_(transform|layer_norm|projector)\.",
        r"^(pre_classifier|classifier|qa_outputs)\.",
        r"embeddings\.position_ids$",
    ),
)


class BertEncoder(nn.Module):
    """The tower; fields as in transformers' `BertConfig`.

    Attributes:
      vocab_size: rows of the embedding.
      hidden_size: width of the states.
      num_hidden_layers: blocks.
      num_attention_heads: heads a block.
      intermediate_size: width of the MLPs.
      max_position_embeddings: the longest sequence.
      type_vocab_size: kinds of segment; 0 for DistilBERT, which has none.
      hidden_act: activation of the MLPs.
      layer_norm_eps: added to the variance.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype; parameters are float32.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @property
    def port(self) -> Port:
        """How the files spell the parameters."""
        return BERT if self.type_vocab_size else DISTILBERT

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, 1), jnp.int32),)

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b n"],
        mask: Bool[Array, "b n"] | None = None,
        token_types: Int[Array, "b n"] | None = None,
    ) -> dict[str, Any]:
        """Encodes.

        Args:
          tokens: ids of the tokenizer.
          mask: True at real tokens, False at padding, which nothing attends to.
          token_types: segment of each token; all in the first where none are given.

        Returns:
          `hidden_states`, a tuple of [b, n, c]: the embeddings, then each block's output;
          `last_hidden_state`, the last of them.

        Raises:
          UserError: more tokens than positions, or segments in a tower that has none.
        """
        n = tokens.shape[1]
        if n > self.max_position_embeddings:
            raise UserError(
                f"{n} tokens, but this tower has {self.max_position_embeddings} positions: "
                "truncate the text"
            )
        # Of the three the sum is taken in float32: it is normalised at once.
        x = self._table("word_embeddings", self.vocab_size)(tokens)
        x = (
            x
            + self._table("position_embeddings", self.max_position_embeddings)(jnp.arange(n))[None]
        )
        if self.type_vocab_size:
            types = jnp.zeros_like(tokens) if token_types is None else token_types
            x = x + self._table("token_type_embeddings", self.type_vocab_size)(types)
        elif token_types is not None:
            raise UserError("token_types: this tower has no segments (type_vocab_size=0)")
        x = layer_norm("norm", self.layer_norm_eps, self.dtype)(x)

        states = [x]
        for i in range(self.num_hidden_layers):
            x = PostNormBlock(
                num_heads=self.num_attention_heads,
                intermediate_size=self.intermediate_size,
                hidden_act=self.hidden_act,
                layer_norm_eps=self.layer_norm_eps,
                attention_implementation=self.attention_implementation,
                dtype=self.dtype,
                name=f"blocks_{i}",
            )(x, mask)
            states.append(x)
        return {"last_hidden_state": x, "hidden_states": tuple(states)}

    def _table(self, name: str, rows: int) -> nn.Embed:
        return nn.Embed(
            rows, self.hidden_size, embedding_init=nn.initializers.normal(0.02), name=name
        )


def sentence_embedding(
    states: Float[Array, "b n c"], mask: Bool[Array, "b n"]
) -> Float[Array, "b c"]:
    """The mean of the states at real tokens, of unit length, in float32.

    Args:
      states: `last_hidden_state`.
      mask: True at real tokens; a row without any gives zeros.
    """
    mean = masked_mean(states.astype(jnp.float32), mask)
    square = jnp.sum(mean * mean, axis=-1, keepdims=True)
    # The bound of torch's normalize, 1e-12 on the norm, would be denormal here when squared.
    return mean * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def from_hf_config(config: Mapping[str, Any], **options: Any) -> BertEncoder:
    """The tower that a config.json of `bert` or `distilbert` describes.

    Args:
      config: the parsed config.json; keys that it lacks have transformers' defaults.
      **options: fields of ours (`dtype`, `attention_implementation`).
    """
    kind = check_model_type(config, "bert", "distilbert")
    check_values(
        config, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False
    )
    fields = take(config, "vocab_size", "max_position_embeddings")
    if kind == "distilbert":
        fields |= {"num_hidden_layers": 6, "type_vocab_size": 0}
        fields |= take(
            config,
            hidden_size="dim",
            num_hidden_layers="n_layers",
            num_attention_heads="n_heads",
            intermediate_size="hidden_dim",
            hidden_act="activation",
        )
    else:
        fields |= take(
            config,
            *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
            *("type_vocab_size", "hidden_act", "layer_norm_eps"),
        )
    return BertEncoder(**fields, **options)


# Constructor fields by the name of the repository on huggingface.co.
PRESETS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {},
    "distilbert-base-uncased": {"num_hidden_layers": 6, "type_vocab_size": 0},
    "all-MiniLM-L6-v2": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1536,
    },
}
