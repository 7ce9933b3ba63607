"""A trained model as files that others read."""

import dataclasses
import filecmp
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from gen_jax.common import checksum, files
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.common.safetensors_io import load_safetensors
from gen_jax.runs import layout, pipeline_export, reader, sources, text_tower, weights
from gen_jax.runs.reader import TrainedModel

# The least number that becomes infinity in float16, whose largest is 65504.
_BEYOND_HALF = 65520

# What a folder of weights takes along from its run, where it is there.
_COMPANIONS = (layout.REPORT, layout.TOKENIZER)


def to_safetensors(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """Writes a folder that `reader.load` takes like a run directory, and loads it once.

    Args:
      model: The model to write.
      out: An empty folder.
      dtype: "float32", "float16" for half the size, or "int8" for about a quarter: kernels and
        tables in 8 bits with scales (see `weights.rounded`); statistics stay f32.

    Raises:
      UserError: A weight does not fit the type, or the folder does not read back as written.
    """
    _write_run(model, out, dtype)
    reader.load(str(out))


def _write_run(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    is_rounded = dtype == "int8"
    params = cast(model.variables["params"], None if is_rounded else dtype, model.path)
    params = weights.rounded(params) if is_rounded else params
    extra = cast(model.variables["extra"], None, model.path)
    save(out / layout.WEIGHTS, {"params": params, "extra": extra})
    for name in _COMPANIONS:
        if (model.path / name).is_file():
            _copy(model.path / name, out / name)
    write_manifest(model, out)
    config = model.config.copy_and_resolve_references()
    for name, source in config.frozen.to_dict().items():
        if not sources.is_path(source):
            continue
        # A model from elsewhere comes along, so that the folder is complete.
        frozen = reader.load_frozen({name: source}, model.path)[name]
        if len(frozen.config):
            (out / name).mkdir()
            _write_run(frozen, out / name, dtype)
        else:  # a diffusers folder
            shutil.copytree(frozen.path, out / name, copy_function=_copy)
        with config.unlocked():
            config.frozen[name] = name
    if text_tower.is_frozen(config.task):
        if not (out / layout.TOKENIZER).is_file():
            model.tokenizer().save(out / layout.TOKENIZER)
        with config.unlocked():
            text_tower.export(config.task, model.path, out)
            if model.merged_files:
                text = model.frozen["text"]["params"]
                text = cast(text, None if is_rounded else dtype, model.path)
                text_tower.export_weights(config.task, model.task.text_encoder, text, out)
    files.write_text(out / layout.CONFIG, config_lib.to_json(config) + "\n")


def to_huggingface(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """config.json and model.safetensors of an encoder, as transformers and `encoders.load` read it.

    Raises:
      UserError: the run trained no encoder.
    """
    from gen_jax.encoders.dinov2 import to_hf_config
    from gen_jax.encoders.weights import torch_from_flax

    components = model.task.components(model.variables, model.frozen)
    if "encoder" not in components:
        raise UserError(
            f"{model.path}: trained no encoder, and format=huggingface is for encoders; "
            "use format=safetensors"
        )
    module, params = components["encoder"]
    state = torch_from_flax(params, module.port)
    save(out / layout.WEIGHTS, cast(state, dtype, model.path), {"format": "pt"})
    layout.write_json(out / layout.CONFIG, {**to_hf_config(module), "torch_dtype": dtype})
    write_manifest(model, out)


def factors_of(model: TrainedModel) -> reader.Factors:
    """Returns the low-rank factors of a run.

    Raises:
      UserError: The run trained none.
    """
    if model.lora is None:
        raise UserError(
            f"{model.path}: trained no low-rank factors, and this format is for them; use "
            "format=safetensors"
        )
    return model.lora


def to_lora(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """The low-rank factors alone; the file's metadata name the model that they adapt.

    Raises:
      UserError: The run trained no factors.
    """
    lora = factors_of(model)
    metadata = {
        "format": "gen_jax.lora",
        "task": model.config.task.name,
        **{key: str(value) for key, value in dataclasses.asdict(lora.config).items()},
        "base": lora.base,
        "base_sha256": lora.base_digest,
    }
    save(out / layout.LORA, cast(lora.params, dtype, model.path), metadata)
    write_manifest(model, out, layout.LORA)


def write_manifest(model: TrainedModel, out: pathlib.Path, name: str = layout.WEIGHTS) -> None:
    """Writes the run's manifest, the checksum of the weights and the runs that they average."""
    path = model.path / layout.MANIFEST
    values = layout.read_json(path, "manifest") if path.is_file() else {}
    if model.mean_of:
        values["mean_of_sha256"] = list(model.mean_of)
    if model.merged_files:
        values["lora"] = list(model.merged_files)
    values |= checksum.entry(out / name)
    layout.write_json(out / layout.MANIFEST, values)


def to_diffusers(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """Writes a whole pipeline of a latent diffusion run, or else a folder of each network.

    Args:
      model: The model to write.
      out: An empty folder.
      dtype: Type of the stored weights.

    Raises:
      UserError: An architecture or a pipeline that diffusers does not have.
    """
    try:
        parts = model.task.as_released(model.variables, model.frozen)
    except UserError as error:
        raise UserError(
            f"{model.path}: is no Stable Diffusion pipeline: {error}; use format=safetensors"
        ) from None
    if parts is None:
        _write_networks(model, out, dtype)
        return
    cast_components = {
        name: (module, cast(tree, dtype, model.path))
        for name, (module, tree) in parts.components.items()
    }
    parts = dataclasses.replace(parts, components=cast_components)
    pipeline_export.write(parts, model.tokenizer(), out, dtype)
    for name, (_, tree) in parts.components.items():
        read = pipeline_export.read_back(out, name)
        _compare(out / name, weights.flatten(tree), weights.flatten(read))
    if pipeline_export.tokenizer_of(out).to_json() != model.tokenizer().to_json():
        raise _not_as_written(out / "tokenizer")


def _write_networks(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """Writes a folder of each network that diffusers has, such as `vae`."""
    from gen_jax.encoders.diffusers_config import CLASSES
    from gen_jax.encoders.diffusers_folder import load_diffusers, save_diffusers

    components = model.task.components(model.variables, model.frozen)
    kinds = {name: type(module) for name, (module, _) in components.items()}
    if not (known := [name for name, kind in kinds.items() if kind in CLASSES.values()]):
        names = ", ".join(kind.__name__ for kind in kinds.values()) or "format for this stage"
        raise UserError(f"{model.path}: diffusers has no {names}; use format=safetensors")
    for name in known:
        module, tree = components[name]
        tree = cast(tree, dtype, model.path)
        save_diffusers(out / name, module, tree, dtype)
        _, read = load_diffusers(out / name)
        _compare(out / name, weights.flatten(tree), weights.flatten(read))


def cast(tree: Any, dtype: str | None, where: pathlib.Path) -> Any:
    """Returns the weights in `dtype`; None keeps their types.

    Raises:
      UserError: A weight is not finite, or too large for float16.
    """
    for name, value in weights.flatten(tree).items():
        if not np.isfinite(value).all():
            raise UserError(
                f"{where}: {name} is not finite (NaN or Inf), and is not exported; choose an "
                "earlier step"
            )
        largest = np.abs(value).max(initial=0)
        if dtype == "float16" and largest >= _BEYOND_HALF:
            raise UserError(
                f"{where}: {name} holds {largest:g}, and float16 ends at 65504; use dtype=float32"
            )
    return jax.tree.map(
        lambda x: x.astype(dtype, copy=False) if dtype and np.asarray(x).dtype == np.float32 else x,
        tree,
    )


def save(path: pathlib.Path, tree: Any, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file and reads it back by our own reader."""
    weights.save(path, tree, metadata)
    _compare(path, weights.flatten(tree), load_safetensors(path))


def _compare(path: pathlib.Path, written: dict, read: dict) -> None:
    """Raises UserError unless two sets of arrays are the same to the bit, once in one type."""
    if written.keys() != read.keys() or any(
        v.shape != read[k].shape or v.astype(read[k].dtype).tobytes() != read[k].tobytes()
        for k, v in written.items()
    ):
        raise _not_as_written(path)


def _copy(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    shutil.copy(source, target)
    if not filecmp.cmp(source, target, shallow=False):
        raise _not_as_written(target)


def _not_as_written(path: str | pathlib.Path) -> UserError:
    return UserError(f"{path}: does not read back as it was written; check the disk, try again")
