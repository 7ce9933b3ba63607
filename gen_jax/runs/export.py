"""A trained model as files that others read."""

import pathlib
import shutil

import jax
import numpy as np

from gen_jax.common import config as config_lib
from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.models.autoencoder_tiny import AutoencoderTiny
from gen_jax.runs import layout, reader, text_tower, weights
from gen_jax.runs.reader import TrainedModel

# What a folder of weights takes along from its run, where it is there.
_COMPANIONS = (layout.MANIFEST, layout.REPORT, layout.TOKENIZER)


def to_safetensors(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """A folder that `reader.load` takes like a run directory.

    Args:
      model: what to write.
      out: an empty folder.
      dtype: "float32", or "float16" for half the size; statistics stay f32.
    """
    half = jax.tree.map(
        lambda x: x.astype(dtype) if x.dtype == np.float32 else x, model.variables["params"]
    )
    weights.save(out / layout.WEIGHTS, {"params": half, "extra": model.variables["extra"]})
    for name in _COMPANIONS:
        if (model.path / name).is_file():
            shutil.copy(model.path / name, out / name)
    _name_averaged(model, out)
    config = model.config.copy_and_resolve_references()
    for name, source in config.frozen.to_dict().items():
        if source.startswith("package:"):
            continue
        # A model from elsewhere comes along, so that the folder is complete.
        frozen = reader.load_frozen({name: source}, model.path)[name]
        if len(frozen.config):
            (out / name).mkdir()
            to_safetensors(frozen, out / name, dtype)
        else:  # a diffusers folder
            shutil.copytree(frozen.path, out / name)
        with config.unlocked():
            config.frozen[name] = name
    if text_tower.is_frozen(config.task):
        with config.unlocked():
            text_tower.export(config.task, model.path, out)
    files.write_text(out / layout.CONFIG, config_lib.to_json(config) + "\n")


def to_huggingface(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """config.json and model.safetensors of an encoder, as transformers and `encoders.load` read it.

    Raises:
      UserError: the run trained no encoder.
    """
    from gen_jax.encoders.dinov2 import to_hf_config
    from gen_jax.encoders.weights import torch_from_flax

    module = getattr(model.task, "encoder", None)
    if module is None:
        raise UserError(
            f"{model.path}: trained no encoder, and --format=huggingface is for encoders; "
            "use --format=safetensors"
        )
    state = torch_from_flax(model.task.as_frozen(model.variables), module.port)
    state = {k: v.astype(dtype) for k, v in state.items()}
    weights.save(out / layout.WEIGHTS, state, {"format": "pt"})
    layout.write_json(out / layout.CONFIG, {**to_hf_config(module), "torch_dtype": dtype})
    if (model.path / layout.MANIFEST).is_file():
        shutil.copy(model.path / layout.MANIFEST, out / layout.MANIFEST)
        _name_averaged(model, out)


def _name_averaged(model: TrainedModel, out: pathlib.Path) -> None:
    """Says in the manifest which runs the weights are the mean of."""
    path = out / layout.MANIFEST
    if model.mean_of and path.is_file():
        layout.write_json(
            path, {**layout.read_json(path, "manifest"), "mean_of_sha256": list(model.mean_of)}
        )


def to_diffusers(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """Folders `vae` and `unet`, each with config.json and its weights, as diffusers reads them.

    Raises:
      UserError: an architecture that diffusers does not have.
    """
    from gen_jax.encoders.diffusers_folder import save_diffusers

    task, params = model.task, model.variables["params"]["model"]
    parts = {}
    if hasattr(task, "unet"):
        parts["unet"] = (task.unet, params["unet"])
        stage = model.frozen["vae"]
    else:
        stage = task.as_frozen(model.variables)
    if not isinstance(task.autoencoder, AutoencoderKL | AutoencoderTiny):
        if not parts:
            raise UserError(
                f"{model.path}: diffusers has no {type(task.autoencoder).__name__}; "
                "use --format=safetensors"
            )
    else:
        parts["vae"] = (task.autoencoder, stage["params"])
    for name, (module, tree) in parts.items():
        save_diffusers(out / name, module, tree, dtype)
