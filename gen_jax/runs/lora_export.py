"""Low-rank factors of a latent diffusion run, as files that other programs read."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from gen_jax.common.errors import UserError
from gen_jax.encoders import lora_export, lora_files
from gen_jax.encoders.weights import flat_params
from gen_jax.runs import export, layout
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.lora import A


def to_diffusers(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """Writes `pytorch_lora_weights.safetensors` as diffusers' `load_lora_weights` reads it.

    Raises:
      UserError: The run trained no factors, or some that diffusers has no names for.
    """
    _write(model, out / layout.DIFFUSERS_LORA, dtype, lora_export.to_diffusers, {})


def to_kohya(model: TrainedModel, out: pathlib.Path, dtype: str) -> None:
    """Writes `kohya_lora.safetensors`, the spelling of kohya's sd-scripts and of web interfaces.

    Raises:
      UserError: As `to_diffusers`.
    """
    config = model.lora.config if model.lora else None
    metadata = {"ss_network_module": "networks.lora"}
    if config:
        metadata |= {"ss_network_dim": str(config.rank), "ss_network_alpha": str(config.alpha)}
    _write(model, out / layout.KOHYA_LORA, dtype, lora_export.to_kohya, metadata)


def _write(
    model: TrainedModel,
    file: pathlib.Path,
    dtype: str,
    convert: Callable[..., dict[str, Any]],
    metadata: Mapping[str, str],
) -> None:
    lora = export.factors_of(model)
    known = model.task.lora_components()
    kernels = dict(flat_params(model.variables["params"]))
    factors: dict[str, dict[tuple[str, ...], tuple]] = {}
    for path, a in flat_params(lora.params):
        if path[-1] != A:
            continue
        kernel = path[:-1]
        name, place = _component(model, known, kernel)
        b = _at(lora.params, kernel)["lora_B"]
        factors.setdefault(name, {})[kernel[len(place) :]] = (kernels[kernel].shape, a, b)
    state = {}
    for name, tree in factors.items():
        state |= convert(name, tree, known[name][1], lora.config.scale)
    base = {"base": lora.base, "base_sha256": lora.base_digest}
    metadata = {"format": "pt", **metadata, **base}
    export.save(file, export.cast(state, dtype, model.path), metadata)
    lora_files.read(file)
    export.write_manifest(model, file.parent, file.name)


def _component(model, known, kernel: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Returns the component that a kernel belongs to, and the path of its parameters."""
    for name, (place, _) in known.items():
        if place[0] == "params" and kernel[: len(place) - 1] == place[1:]:
            return name, place[1:]
    adapted = "/".join(kernel)
    raise UserError(
        f"{model.path}: its factors adapt {adapted}, for which these files have no name; use "
        "format=lora"
    )


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree
