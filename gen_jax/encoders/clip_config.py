"""The config.json of CLIP's text encoder, as transformers reads it."""

from typing import Any

from gen_jax.encoders.clip import CLIPText

_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "hidden_act", "layer_norm_eps"),
    "eos_token_id",
)


def text_to_hf_config(module: CLIPText) -> dict[str, Any]:
    """Returns the config of `CLIPTextModel`; `clip.text_from_hf_config` reads it back."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        # The module has no projection; transformers wants a number.
        "projection_dim": module.projection_dim or module.hidden_size,
        **{name: getattr(module, name) for name in _FIELDS},
    }
