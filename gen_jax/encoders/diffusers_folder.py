"""Model folders as diffusers writes them, read and written back bit for bit."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from gen_jax.common import files, outputs
from gen_jax.common import safetensors_io as st
from gen_jax.common.errors import UserError
from gen_jax.encoders.diffusers_config import (
    config_from_module,
    module_from_config,
    same_model,
    to_json,
)
from gen_jax.encoders.weights import DIFFUSERS, flax_from_torch, torch_views

STEM = "diffusion_pytorch_model"
CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """All of a model folder but the tensors: what a faithful save needs.

    Attributes:
      config: config.json as it was.
      headers: (file name, safetensors header) of each weight file: names, order, types and
        shapes as they are stored, and the metadata.
      index: (file name, text) of a sharded model's index.
    """

    config: bytes
    headers: tuple[tuple[str, bytes], ...]
    index: tuple[str, bytes] | None = None


def param_shapes(module: nn.Module) -> dict[str, Any]:
    """The tree of `ShapeDtypeStruct`s under "params"; computes nothing."""
    variables = jax.eval_shape(module.init, jax.random.key(0), *module.example_inputs())
    return variables["params"]


def load_diffusers(
    path: str | os.PathLike,
    subfolder: str | None = None,
    variant: str | None = None,
    **options: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Module and parameters of a diffusers model folder.

    Args:
      path: the folder, or a .safetensors file in it.
      subfolder: "vae" or "unet" of a pipeline's folder.
      variant: "fp16" for the files with that infix. By default the files without an infix; if
        there are none, those of fp16 or of the only variant that is there.
      **options: fields of the module that are no part of the config (`dtype`, `remat`,
        `attention_implementation`).

    Returns:
      The module (its `source` remembers the folder's config and layout, so that
      `save_diffusers` gives the same bytes) and its parameters, float32 numpy arrays.

    Raises:
      UserError: no config, no weights, pickled weights, or weights that do not fit.
    """
    path = pathlib.Path(path, subfolder) if subfolder else pathlib.Path(path)
    st.refuse_pickle(path)
    folder = path.parent if path.suffix == ".safetensors" else path
    config_file = folder / CONFIG
    try:
        config = config_file.read_bytes()
        files.refuse_lfs_pointer(config_file)
        parsed = json.loads(config)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{config_file}: no such file: expected a diffusers model folder "
            "(of a pipeline, name the subfolder: unet, vae)"
        ) from None
    except ValueError as e:
        raise UserError(f"{config_file}: no valid JSON ({e}): get the file again") from None
    module = module_from_config(parsed, str(config_file), **options)
    index, shards = _weight_files(path, folder, variant)

    state: dict[str, np.ndarray] = {}
    for file in shards:
        state |= st.load_safetensors(file)
    params = flax_from_torch(state, param_shapes(module), where=str(path))
    source = Source(config, tuple((f.name, st.read_header(f)) for f in shards), index)
    return module.clone(source=source), params


def save_diffusers(
    folder: str | os.PathLike,
    module: nn.Module,
    params: Mapping[str, Any],
    dtype: Any = None,
) -> None:
    """Writes config.json and the weights as diffusers reads them, whole or not at all.

    A module that came from `load_diffusers` is written as it was found: the same config
    text, files, key order, types and metadata, so that unchanged parameters give the same
    bytes. Otherwise there is one file, `diffusion_pytorch_model.safetensors`.

    Args:
      folder: made if it is not there; files of these names are replaced.
      module: the architecture.
      params: its parameters, the tree under "params".
      dtype: stores all weights in this type ("float16", "bfloat16", "float32"); None keeps
        the types of the source, or float32.

    Raises:
      UserError: the folder holds other weight files, which would be mixed with the new.
    """
    folder = pathlib.Path(folder)
    state = torch_views(params)
    source = module.source
    config = _config_bytes(module, source)
    is_kept = source is not None and _covers(source, state)
    if not is_kept or (dtype is not None and not _is_stored_as(source, dtype)):
        kind = np.dtype(dtype or np.float32)
        specs = {k: (kind, v.shape) for k, v in state.items()}
        source = Source(config, ((f"{STEM}.safetensors", st.make_header(specs, {"format": "pt"})),))

    names = [name for name, _ in source.headers]
    if source.index:
        names.append(source.index[0])
    _check_target(folder, names)
    with outputs.writing(folder.absolute()) as temporary:
        for name, header in source.headers:
            st.write_safetensors(temporary / name, header, lambda e: _stored_tensor(state, e))
        if source.index:
            (temporary / source.index[0]).write_bytes(source.index[1])
        (temporary / CONFIG).write_bytes(config)


def _weight_files(
    path: pathlib.Path, folder: pathlib.Path, variant: str | None
) -> tuple[tuple[str, bytes] | None, list[pathlib.Path]]:
    """The index (of a sharded model) and the weight files in their order."""
    if path != folder:
        return None, [path]
    others = _variants(folder)
    usual = ["", ".fp16"] + ([f".{others[0]}"] if len(others) == 1 else [])
    for infix in [f".{variant}"] if variant else usual:
        single = folder / f"{STEM}{infix}.safetensors"
        if single.exists():
            return None, [single]
        index = folder / f"{STEM}.safetensors.index{infix}.json"
        if index.exists():
            text = index.read_bytes()
            try:
                shards = sorted(set(json.loads(text)["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UserError(f"{index}: no index of weight files: get it again") from None
            return (index.name, text), [folder / s for s in shards]
    for pickle in sorted(folder.glob(f"{STEM}*.bin")):
        st.refuse_pickle(pickle)
    wanted = f"{STEM}{f'.{variant}' if variant else ''}.safetensors"
    here = f"; the variants there are {', '.join(others)}: name one" if others else ""
    raise UserError(f"{folder}: no {wanted} nor its index: expected the weights there{here}")


def _variants(folder: pathlib.Path) -> list[str]:
    """Returns the infixes of the weight files in a folder, such as "bf16"."""
    names = rf"{STEM}(?:\.safetensors\.index)?\.(\w+)\.(?:safetensors|json)"
    found = (re.fullmatch(names, path.name) for path in folder.glob(f"{STEM}*"))
    return sorted({match[1] for match in found if match and match[1] != "safetensors"})


def _config_bytes(module: nn.Module, source: Source | None) -> bytes:
    if source is None:
        return to_json(config_from_module(module))
    parsed = json.loads(source.config)
    if same_model(module, parsed):
        return source.config
    return to_json(config_from_module(module, parsed))


def _covers(source: Source, state: Mapping[str, np.ndarray]) -> bool:
    """Whether the source's files have room for exactly these tensors."""
    entries = [e for name, header in source.headers for e in st.parse_header(header, name)[0]]
    stored = {DIFFUSERS.canonical(e.name): int(np.prod(e.shape)) for e in entries}
    return stored == {k: v.size for k, v in state.items()}


def _is_stored_as(source: Source, dtype: Any) -> bool:
    """Returns whether all tensors of the source's files have a type."""
    entries = [e for name, header in source.headers for e in st.parse_header(header, name)[0]]
    return all(entry.dtype == np.dtype(dtype) for entry in entries)


def _stored_tensor(state: Mapping[str, np.ndarray], entry: st.Entry) -> np.ndarray:
    # The reshape is for dense layers that were stored as 1x1 convolutions.
    return state[DIFFUSERS.canonical(entry.name)].astype(entry.dtype).reshape(entry.shape)


def _check_target(folder: pathlib.Path, names: list[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file: name a folder to write the model to")
    others = (
        sorted({f.name for f in folder.glob(f"{STEM}*")} - set(names)) if folder.exists() else []
    )
    if others:
        raise UserError(
            f"{folder}: holds {', '.join(others)}, which would be mixed with the new weights: "
            "remove it or name another folder"
        )
