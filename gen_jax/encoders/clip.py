"""CLIP's two towers (arXiv:2103.00020), as OpenAI and OpenCLIP published them.

The files are those of Hugging Face: whole models, or one tower alone as in the folders of
Stable Diffusion. Images are RGB in [0, 1], normalised with `MEAN` and `STD`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gen_jax.common.errors import UserError
from gen_jax.encoders.hf_config import check_model_type, square, take
from gen_jax.encoders.patches import PatchEmbed, resize_positions
from gen_jax.encoders.transformer import PreNormBlock
from gen_jax.encoders.weights import Port
from gen_jax.models.layers.norms import layer_norm

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

_BLOCKS = (
    (r"\.attention\.query\.", ".self_attn.q_proj."),
    (r"\.attention\.key\.", ".self_attn.k_proj."),
    (r"\.attention\.value\.", ".self_attn.v_proj."),
    (r"\.attention\.out\.", ".self_attn.out_proj."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
)

# Of a projection in the file these take no notice; `port` of a tower that has one does.
TEXT = Port(
    rename=(
        *_BLOCKS,
        (r"^blocks\.", "text_model.encoder.layers."),
        (r"^(token|position)_embedding\.", r"text_model.embeddings.\1_embedding."),
        (r"^final_norm\.", "text_model.final_layer_norm."),
    ),
    aliases=((r"^(embeddings|encoder|final_layer_norm)\.", r"text_model.\1."),),
    ignore=(
        r"^(vision_model|visual_projection)\.",
        r"^logit_scale$",
        r"embeddings\.position_ids$",
        r"^text_projection\.",
    ),
)
VISION = Port(
    rename=(
        *_BLOCKS,
        (r"^blocks\.", "vision_model.encoder.layers."),
        (r"^class_embedding$", "vision_model.embeddings.class_embedding"),
        (r"^position_embedding$", "vision_model.embeddings.position_embedding.weight"),
        (r"^patch_embed\.", "vision_model.embeddings.patch_embedding."),
        (r"^pre_norm\.", "vision_model.pre_layrnorm."),
        (r"^post_norm\.", "vision_model.post_layernorm."),
    ),
    aliases=((r"^(embeddings|encoder|pre_layrnorm|post_layernorm)\.", r"vision_model.\1."),),
    ignore=(
        r"^(text_model|text_projection)\.",
        r"^logit_scale$",
        r"embeddings\.position_ids$",
        r"^visual_projection\.",
    ),
)


def _projected(port: Port) -> Port:
    return dataclasses.replace(port, ignore=port.ignore[:-1])


TEXT_PROJECTED = _projected(TEXT)
VISION_PROJECTED = _projected(VISION)


class CLIPText(nn.Module):
    """The text tower; fields as in transformers' `CLIPTextConfig`.

    Attributes:
      vocab_size: rows of the embedding.
      hidden_size: width of the states.
      num_hidden_layers: blocks.
      num_attention_heads: heads a block.
      intermediate_size: width of the MLPs.
      max_position_embeddings: the longest sequence.
      hidden_act: "quick_gelu" (OpenAI) or "gelu" (OpenCLIP, which is the exact one).
      layer_norm_eps: added to the variance.
      eos_token_id: pooled at its first place; 2, which old configs say, means at the highest id.
      projection_dim: width of the joint space; None for a tower without the projection.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype; parameters are float32.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407
    projection_dim: int | None = None
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @property
    def port(self) -> Port:
        """How the files spell the parameters."""
        return TEXT if self.projection_dim is None else TEXT_PROJECTED

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, 1), jnp.int32),)

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b n"], mask: Bool[Array, "b n"] | None = None
    ) -> dict[str, Any]:
        """Encodes.

        Args:
          tokens: ids of the tokenizer, with an end-of-text in each row.
          mask: True at real tokens. Stable Diffusion gives none: padding is attended to, as
            far as the causal mask lets it.

        Returns:
          `hidden_states`, a tuple of [b, n, c]: the embeddings, then each block's output;
          `last_hidden_state`, the last after the final norm (Stable Diffusion 1);
          `penultimate` (Stable Diffusion XL) and `penultimate_norm` (the same after the final
          norm, Stable Diffusion 2), of the block before the last;
          `pooled` [b, c], `last_hidden_state` at the end of the text; with a projection
          `text_embeds` [b, projection_dim], not normalised.

        Raises:
          UserError: more tokens than positions.
        """
        b, n = tokens.shape
        if n > self.max_position_embeddings:
            raise UserError(
                f"{n} tokens, but this tower has {self.max_position_embeddings} positions: "
                "truncate the text"
            )
        options = {"embedding_init": nn.initializers.normal(0.02), "dtype": self.dtype}
        x = nn.Embed(self.vocab_size, self.hidden_size, **options, name="token_embedding")(tokens)
        x = x + nn.Embed(
            self.max_position_embeddings, self.hidden_size, **options, name="position_embedding"
        )(jnp.arange(n)[None])

        states = [x]
        for i in range(self.num_hidden_layers):
            x = PreNormBlock(**_block(self), is_causal=True, name=f"blocks_{i}")(x, mask)
            states.append(x)
        final = layer_norm("final_norm", self.layer_norm_eps, self.dtype)
        last = final(x)
        ends = tokens if self.eos_token_id == 2 else tokens == self.eos_token_id
        pooled = last[jnp.arange(b), jnp.argmax(ends, axis=1)]
        outputs = {
            "last_hidden_state": last,
            "penultimate": states[-2],
            "penultimate_norm": final(states[-2]),
            "pooled": pooled,
            "hidden_states": tuple(states),
        }
        if self.projection_dim is not None:
            outputs["text_embeds"] = nn.Dense(
                self.projection_dim, use_bias=False, dtype=self.dtype, name="text_projection"
            )(pooled)
        return outputs


class CLIPVision(nn.Module):
    """The image tower; fields as in transformers' `CLIPVisionConfig`.

    Attributes:
      hidden_size: width of the states.
      num_hidden_layers: blocks.
      num_attention_heads: heads a block.
      intermediate_size: width of the MLPs.
      image_size: pixels a side that the positions were learnt at.
      patch_size: pixels a side of a token.
      hidden_act: "quick_gelu" (OpenAI) or "gelu" (OpenCLIP, which is the exact one).
      layer_norm_eps: added to the variance.
      projection_dim: width of the joint space; None for a tower without the projection.
      remat: recompute the blocks in the backward pass.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype; parameters are float32.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int | None = None
    remat: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @property
    def port(self) -> Port:
        """How the files spell the parameters."""
        return VISION if self.projection_dim is None else VISION_PROJECTED

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, self.patch_size, self.patch_size, 3), jnp.float32),)

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> dict[str, Any]:
        """Encodes.

        Args:
          images: normalised; both sides are multiples of `patch_size`. At another size than
            `image_size` the positions are resized (transformers' interpolate_pos_encoding).

        Returns:
          `hidden_states`, a tuple of [b, 1 + patches, c]: the normalised embeddings, then
          each block's output; `last_hidden_state`, the last of them; `patches`
          [b, h / patch_size, w / patch_size, c], the same without the class token;
          `pooled` [b, c], the class token after the final norm; with a projection
          `image_embeds` [b, projection_dim], not normalised.

        Raises:
          UserError: a side is no multiple of `patch_size`.
        """
        x = PatchEmbed(self.hidden_size, self.patch_size, False, self.dtype, name="patch_embed")(
            images
        )
        b, rows, columns, width = x.shape
        side = self.image_size // self.patch_size
        normal = nn.initializers.normal(0.02)
        first = self.param("class_embedding", normal, (width,), jnp.float32)
        table = self.param("position_embedding", normal, (side * side + 1, width), jnp.float32)
        table = jnp.concatenate(
            [table[:1], resize_positions(jnp.asarray(table[1:]), rows, columns)]
        )
        first = jnp.broadcast_to(first.astype(self.dtype)[None, None], (b, 1, width))
        x = jnp.concatenate([first, x.reshape(b, rows * columns, width)], axis=1)
        x = layer_norm("pre_norm", self.layer_norm_eps, self.dtype)(
            x + table.astype(self.dtype)[None]
        )

        block = nn.remat(PreNormBlock) if self.remat else PreNormBlock
        states = [x]
        for i in range(self.num_hidden_layers):
            x = block(**_block(self), name=f"blocks_{i}")(x)
            states.append(x)
        pooled = layer_norm("post_norm", self.layer_norm_eps, self.dtype)(x[:, 0])
        outputs = {
            "last_hidden_state": x,
            "patches": x[:, 1:].reshape(b, rows, columns, width),
            "pooled": pooled,
            "hidden_states": tuple(states),
        }
        if self.projection_dim is not None:
            outputs["image_embeds"] = nn.Dense(
                self.projection_dim, use_bias=False, dtype=self.dtype, name="visual_projection"
            )(pooled)
        return outputs


def _block(tower: CLIPText | CLIPVision) -> dict[str, Any]:
    """Fields of the blocks of a tower."""
    return {
        "num_heads": tower.num_attention_heads,
        "intermediate_size": tower.intermediate_size,
        "hidden_act": tower.hidden_act,
        "layer_norm_eps": tower.layer_norm_eps,
        "attention_implementation": tower.attention_implementation,
        "dtype": tower.dtype,
    }


_SHARED = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "layer_norm_eps"),
)


def text_from_hf_config(
    config: Mapping[str, Any], projection: bool | None = None, **options: Any
) -> CLIPText:
    """The text tower that a config.json of `clip` or `clip_text_model` describes.

    Args:
      config: the parsed config.json; keys that it lacks have transformers' defaults.
      projection: with the projection into the joint space; None leaves it to the config: a
        whole model and an architecture "...WithProjection" have it.
      **options: fields of ours (`dtype`, `attention_implementation`).
    """
    config, dim = _of_tower(config, "text", projection)
    fields = take(config, *_SHARED, "vocab_size", "max_position_embeddings", "eos_token_id")
    return CLIPText(**fields, projection_dim=dim, **options)


def vision_from_hf_config(
    config: Mapping[str, Any], projection: bool | None = None, **options: Any
) -> CLIPVision:
    """The image tower that a config.json of `clip` or `clip_vision_model` describes.

    Args:
      config: the parsed config.json; keys that it lacks have transformers' defaults.
      projection: as in `text_from_hf_config`.
      **options: fields of ours (`dtype`, `remat`, `attention_implementation`).
    """
    config, dim = _of_tower(config, "vision", projection)
    fields = take(config, *_SHARED)
    for key in ("image_size", "patch_size"):
        if key in config:
            fields[key] = square(config[key], key)
    return CLIPVision(**fields, projection_dim=dim, **options)


def _of_tower(
    config: Mapping[str, Any], tower: str, projection: bool | None
) -> tuple[Mapping[str, Any], int | None]:
    """The tower's own config, and the width of its projection if it is to have one."""
    whole = check_model_type(config, "clip", f"clip_{tower}_model") == "clip"
    architectures = config.get("architectures") or ()
    if projection is None:
        projection = whole or any(a.endswith("WithProjection") for a in architectures)
    dim = config.get("projection_dim", 512) if projection else None
    if whole:
        # Old files say it twice, and transformers believes the second.
        config = config.get(f"{tower}_config_dict") or config.get(f"{tower}_config") or {}
    return config, dim


_GELU = {"hidden_act": "gelu"}
_TEXT_L = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "projection_dim": 768,
}
_TEXT_H = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "projection_dim": 1024,
    **_GELU,
}
_VISION_L = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "patch_size": 14,
    "projection_dim": 768,
}
_VISION_H = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
    "patch_size": 14,
    "projection_dim": 1024,
    **_GELU,
}

# Constructor fields by the name of the repository under huggingface.co/openai and /laion.
TEXT_PRESETS: dict[str, dict[str, Any]] = {
    "clip-vit-base-patch32": {"projection_dim": 512},
    "clip-vit-base-patch16": {"projection_dim": 512},
    "clip-vit-large-patch14": _TEXT_L,
    "CLIP-ViT-B-32-laion2B-s34B-b79K": {"projection_dim": 512, **_GELU},
    "CLIP-ViT-H-14-laion2B-s32B-b79K": _TEXT_H,
}
VISION_PRESETS: dict[str, dict[str, Any]] = {
    "clip-vit-base-patch32": {"projection_dim": 512},
    "clip-vit-base-patch16": {"patch_size": 16, "projection_dim": 512},
    "clip-vit-large-patch14": _VISION_L,
    "CLIP-ViT-B-32-laion2B-s34B-b79K": {"projection_dim": 512, **_GELU},
    "CLIP-ViT-H-14-laion2B-s32B-b79K": _VISION_H,
}
