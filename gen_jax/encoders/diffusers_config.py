"""diffusers' config.json <-> the fields of a module here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from gen_jax.common import strict_json
from gen_jax.common.build import as_tuples
from gen_jax.common.errors import UserError
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.models.autoencoder_tiny import AutoencoderTiny
from gen_jax.models.unet_2d_condition import UNet2DConditionModel

CLASSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (AutoencoderKL, UNet2DConditionModel, AutoencoderTiny)
}

# Fields that are ours: how to compute, not what.
_OURS = {
    *("parent", "name", "dtype", "remat", "attention_implementation", "zero_init", "source"),
    "use_midblock_gn",
}

# Options of diffusers that have one supported value here (or, where a value changes
# nothing in this code, none listed: any is taken).
_ANY = object()
_ONLY: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"latents_mean": None, "latents_std": None},
    "AutoencoderTiny": {
        "upsample_fn": "nearest",
        "upsampling_scaling_factor": 2,
        "block_out_channels": _ANY,
    },
    "UNet2DConditionModel": {
        "center_input_sample": False,
        "only_cross_attention": False,
        "mid_block_only_cross_attention": (None, False),
        "mid_block_scale_factor": 1,
        "reverse_transformer_layers_per_block": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "num_attention_heads": None,
        "dual_cross_attention": False,
        "class_embed_type": (None, "projection"),
        "class_embeddings_concat": False,
        "num_class_embeds": None,
        "addition_embed_type": None,
        "addition_embed_type_num_heads": _ANY,
        "addition_time_embed_dim": None,
        "attention_type": "default",
        "cross_attention_norm": None,
        # The logits are float32 here in any case.
        "upcast_attention": _ANY,
        "resnet_time_scale_shift": ("default", "scale_shift"),
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
    },
}


def fields_of(cls: type[nn.Module]) -> dict[str, dataclasses.Field]:
    """The fields that a class shares with diffusers' config."""
    return {f.name: f for f in dataclasses.fields(cls) if f.name not in _OURS}


def module_from_config(config: Mapping[str, Any], where: str, **options: Any) -> nn.Module:
    """The module that a diffusers config describes.

    Args:
      config: the parsed config.json.
      where: the file, for messages.
      **options: fields of ours (`dtype`, `remat`, ...).

    Raises:
      UserError: an unknown `_class_name`, or an option that is not supported here.
    """
    name = config.get("_class_name")
    if name not in CLASSES:
        raise UserError(
            f"{where}: _class_name={name!r}: expected one of {', '.join(sorted(CLASSES))}"
        )
    cls = CLASSES[name]
    known, values = fields_of(cls), {}
    for key, value in config.items():
        value = as_tuples(value)
        if key in known or (key == "use_midblock_gn" and cls is AutoencoderTiny):
            values[key] = value
        if key in _ONLY[name] or not (key in values or key.startswith("_")):
            _check_inert(name, key, value, config, where)
    return cls(**values, **options)


def _check_inert(name: str, key: str, value: Any, config: Mapping[str, Any], where: str) -> None:
    if name == "AutoencoderKL" and key in ("down_block_types", "up_block_types"):
        only = _block_types(key, len(config["block_out_channels"]))
    else:
        # What diffusers may add later is taken where it is switched off.
        only = _ONLY[name].get(key, (None, False))
    accepted = only if isinstance(only, tuple) and not key.endswith("_types") else (only,)
    if only is not _ANY and value not in accepted:
        raise UserError(
            f"{where}: {key}={value!r} is not supported: {name} here has "
            f"{' or '.join(map(repr, accepted))}"
        )


def config_from_module(module: nn.Module, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Diffusers' config of a module: `base` (a config it was read from) with its fields."""
    name = type(module).__name__
    config: dict[str, Any] = dict(base or {"_class_name": name})
    for key in fields_of(type(module)):
        config[key] = getattr(module, key)
    if name == "AutoencoderKL":
        for key in ("down_block_types", "up_block_types"):
            config[key] = _block_types(key, len(module.block_out_channels))
    if name == "AutoencoderTiny" and module.use_midblock_gn:
        config["use_midblock_gn"] = True
    return config


def same_model(module: nn.Module, config: Mapping[str, Any]) -> bool:
    """Whether a config describes the module, so that it may be kept as it stands."""
    if config.get("_class_name") != type(module).__name__:
        return False
    other = module_from_config(config, "config.json")
    keys = {*fields_of(type(module)), "use_midblock_gn"}
    return all(
        as_tuples(getattr(module, k, None)) == as_tuples(getattr(other, k, None)) for k in keys
    )


def to_json(config: Mapping[str, Any]) -> bytes:
    """A config file's text, laid out as diffusers does."""
    return (strict_json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _block_types(key: str, levels: int) -> tuple[str, ...]:
    kind = "DownEncoderBlock2D" if key == "down_block_types" else "UpDecoderBlock2D"
    return (kind,) * levels
