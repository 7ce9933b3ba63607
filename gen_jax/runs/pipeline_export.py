"""Writes a latent diffusion run as a folder that diffusers' StableDiffusionPipeline reads."""

import json
import pathlib
from typing import Any

import numpy as np

from gen_jax.common import files
from gen_jax.common import safetensors_io as st
from gen_jax.data.text.tokenizer import Tokenizer
from gen_jax.encoders import catalog, clip
from gen_jax.encoders.clip_config import text_to_hf_config
from gen_jax.encoders.diffusers_config import to_json
from gen_jax.encoders.diffusers_folder import load_diffusers, save_diffusers
from gen_jax.encoders.weights import torch_views
from gen_jax.runs import text_tower
from gen_jax.runs.pipeline_folder import SCHEDULER, SCHEDULER_FILE, TOWER, run_config
from gen_jax.runs.sources import INDEX
from gen_jax.tasks.released import Released

# The release of diffusers whose files these are.
_VERSION = "0.42.1"
_TEXT_WEIGHTS = "model.safetensors"


def write(parts: Released, tokenizer: Tokenizer, out: pathlib.Path, dtype: str) -> None:
    """Writes the pipeline.

    Args:
      parts: The components, whose weights have the type `dtype` already.
      tokenizer: Tokenizer of the text encoder.
      out: An empty folder.
      dtype: Type of the stored weights.
    """
    for name in ("unet", "vae"):
        save_diffusers(out / name, *parts.components[name], dtype)
    _write_text_encoder(out / "text_encoder", *parts.components["text_encoder"], tokenizer, dtype)
    (out / "tokenizer").mkdir()
    tokenizer.save_vocabulary(out / "tokenizer", parts.max_length)
    scheduler = {**parts.scheduler, "_diffusers_version": _VERSION}
    files.write_bytes(out / SCHEDULER / SCHEDULER_FILE, to_json(scheduler))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": _VERSION,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    files.write_bytes(out / INDEX, to_json(index))


def read_back(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Reads the parameters of a component that `write` wrote."""
    if name in ("unet", "vae"):
        return load_diffusers(folder / name)[1]
    return catalog.load(TOWER, folder / name)[1]


def tokenizer_of(folder: pathlib.Path) -> Tokenizer:
    """Reads the tokenizer of a pipeline that `write` wrote, as a run of it does."""
    return text_tower.tokenizer(run_config(folder).task.to_dict(), folder)


def _write_text_encoder(
    folder: pathlib.Path, module: clip.CLIPText, params: Any, tokenizer: Tokenizer, dtype: str
) -> None:
    state = torch_views(params, module.port)
    header = st.make_header(
        {name: (np.dtype(dtype), value.shape) for name, value in state.items()}, {"format": "pt"}
    )
    folder.mkdir()
    st.write_safetensors(folder / _TEXT_WEIGHTS, header, lambda entry: state[entry.name])
    ids = dict(bos_token_id=tokenizer.bos_id, pad_token_id=tokenizer.pad_id)
    # The type that transformers computes in by default; that of diffusers' models is float32.
    config = {**text_to_hf_config(module), **ids, "torch_dtype": "float32"}
    files.write_text(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
