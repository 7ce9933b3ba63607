"""LoRA files merged into a trained model: this package's own, diffusers' and kohya's."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen_jax.common import checksum, numbers
from gen_jax.common import safetensors_io as st
from gen_jax.common.errors import UserError
from gen_jax.encoders import lora_files
from gen_jax.encoders.weights import flat_params
from gen_jax.runs import manifest, weights
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.lora import A, B, merged

OWN = "gen_jax.lora"
"""`format` in the metadata of this package's own files."""

MAX_SCALE = 100


def parse(text: str, name: str) -> tuple[str, float]:
    """Splits "FILE[:SCALE]"; the scale is 1 by default.

    Args:
      text: What a user wrote.
      name: What it is called in messages.

    Raises:
      UserError: The scale is no number from -100 to 100, or the file is missing.
    """
    path, colon, scale = text.rpartition(":")
    if not colon or os.path.exists(text):
        path, scale = text, "1"
    if not os.path.exists(path):
        raise UserError(f"{name}={text}: {path}: no such file; expected FILE or FILE:SCALE")
    return path, numbers.parse(scale, f"{name}={text}: scale", float, -MAX_SCALE, MAX_SCALE)


def merge_all(model: TrainedModel, files: Sequence[tuple[str, float]]) -> TrainedModel:
    """Merges several files, whose changes add up, into a model.

    Args:
      model: A trained model.
      files: Path and scale of each file.

    Raises:
      UserError: As `merge_lora`.
    """
    for path, scale in files:
        model = merge_lora(model, path, scale)
    return model


def merge_lora(model: TrainedModel, file: str | os.PathLike, scale: float = 1.0) -> TrainedModel:
    """Returns the model with W + scale * (alpha / rank) * up @ down for each weight W of a file.

    Prints how many weights are changed, and whether the file was trained on others than these.

    Args:
      model: A trained model. Files of diffusers and kohya fit the UNet and the frozen text
        encoder of a latent diffusion run, files of this package a run of the stage that they were
        trained with.
      file: A LoRA file, or a folder that holds one.
      scale: Strength, -100 to 100; 1 is that of the training.

    Raises:
      UserError: The scale is out of its range, the file cannot be read, or a key of it does not
        fit the model.
    """
    scale = numbers.parse(scale, "scale", float, -MAX_SCALE, MAX_SCALE)
    path = _file(pathlib.Path(file))
    _, metadata = st.parse_header(st.read_header(path), path)
    is_own = metadata.get("format") == OWN
    trees = _own(model, path, metadata) if is_own else _of_components(model, path)
    places = {"params": model.variables["params"], "frozen": model.frozen}
    counts = {}
    for name, (place, factors) in trees.items():
        base = _at(places, place)
        places = _with(places, place, merged({name: factors}, {name: base}, scale)[name])
        counts[name] = sum(key.endswith(f"/{A}") for key in weights.flatten(factors))
    changed = ", ".join(f"{count} weights of {name}" for name, count in counts.items())
    manifest.note(f"{path}: adapts {changed} at scale {scale:g}")
    if metadata.get("base_sha256", model.digest) != model.digest:
        manifest.note(f"{path}: was trained on other weights than those of {model.path}")
    entry = {"file": str(path), "sha256": checksum.of_file(path), "scale": scale}
    return dataclasses.replace(
        model,
        variables={**model.variables, "params": places["params"]},
        frozen=places["frozen"],
        merged_files=(*model.merged_files, entry),
    )


def _file(path: pathlib.Path) -> pathlib.Path:
    """Returns the LoRA file that a path names, or the only one in a folder."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise UserError(
            f"{path}: holds {len(files)} .safetensors files; expected one LoRA file, name it"
        )
    return files[0]


def _of_components(model: TrainedModel, path: pathlib.Path):
    """Returns component -> (path of its parameters, factors) of a file of diffusers or kohya."""
    file = lora_files.read(path)
    known = model.task.lora_components()
    trees = {}
    for name, pairs in file.pairs.items():
        if name not in known:
            stage = model.config.get("task", {}).get("name", "another library")
            has = f"only a {', '.join(known)}" if known else "none that such files fit"
            raise UserError(
                f"{path}: {next(iter(pairs.values())).key} adapts a {name}, and {model.path}, a "
                f"run of {stage}, has {has}"
            )
        place, port = known[name]
        base = _at({"params": model.variables["params"], "frozen": model.frozen}, place)
        factors: dict[str, Any] = {}
        for kernel, (a, b) in file.factors(name, base, port).items():
            factors = _with(factors, kernel, {A: a, B: b})
        trees[name] = place, factors
    return trees


def _own(model: TrainedModel, path: pathlib.Path, metadata: Mapping[str, str]):
    """Returns parameter group -> (its path, factors) of a file of this package."""
    stage = model.config.get("task", {}).get("name", "another library")
    if metadata.get("task") != stage:
        raise UserError(
            f"{path}: factors of a run of {metadata.get('task')}, and {model.path} is a run of "
            f"{stage}"
        )
    tensors = st.load_safetensors(path)
    try:
        ratio = np.float32(float(metadata["alpha"]) / int(metadata["rank"]))
        if not np.isfinite(ratio):
            raise ValueError(ratio)
    except (KeyError, ValueError, ZeroDivisionError):
        raise UserError(
            f"{path}: its metadata name no rank and alpha; get the file again"
        ) from None
    kernels = {"/".join(p): leaf for p, leaf in flat_params(model.variables["params"])}
    groups: dict[str, Any] = {}
    for key in sorted(tensors):
        kernel, _, part = key.rpartition("/")
        partner = f"{kernel}/{B if part == A else A}"
        if part not in (A, B) or partner not in tensors:
            raise UserError(f"{path}: {key} is no factor with a partner; get the file again")
        if part == B:
            continue
        a, b = (np.array(tensors[k], np.float32) for k in (key, partner))
        if kernel not in kernels:
            raise UserError(f"{path}: {key} fits no weight of {model.path}")
        shape = kernels[kernel].shape
        if a.ndim != 2 or b.ndim != 2 or len(a) * b.shape[-1] != np.prod(shape):
            raise UserError(
                f"{path}: {key} and its partner, {list(a.shape)} and {list(b.shape)}, do not fit "
                f"the weight of shape {list(shape)} in {model.path}"
            )
        if a.shape[1] != len(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise UserError(f"{path}: {key} and its partner are damaged; get the file again")
        groups = _with(groups, tuple(kernel.split("/")), {A: a, B: ratio * b})
    return {group: (("params", group), tree) for group, tree in groups.items()}


def _at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _with(tree: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Returns a copy of a tree with another value at a path."""
    first, *below = path
    return {**tree, first: _with(tree.get(first, {}), below, value) if below else value}
