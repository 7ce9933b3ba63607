"""The frozen text tower of a run: its weights, its tokenizer, and where they lie."""

import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.data.text.tokenizer import Tokenizer
from gen_jax.encoders import catalog, files, text_tokenizer
from gen_jax.encoders.weights import torch_from_flax
from gen_jax.runs import layout, sources, weights
from gen_jax.tasks.text import FROZEN, FrozenText, TowerConfig

_WHERE = "config.task.text_encoder"


def is_frozen(task: Mapping[str, Any] | ConfigDict) -> bool:
    """Whether `config.task` names a frozen tower for its text."""
    return (task.get("text_encoder") or {}).get("name") in FROZEN


def load(
    task: Mapping[str, Any], base: pathlib.Path
) -> tuple[FrozenText, dict[str, Any], Tokenizer]:
    """Returns the text encoder that `config.task` names, its parameters and its tokenizer.

    Args:
      task: `config.task`, for which `is_frozen` holds.
      base: the run directory, which relative paths count from.

    Raises:
      UserError: no weights, no vocabulary, or some that do not fit.
    """
    config = _config(task)
    try:
        places = _located(config.weights, base)
        _check_layer(config, places)
        tower, params = catalog.load(config.tower, places or None, dtype=config.dtype)
    except UserError as error:
        raise UserError(f"{_WHERE}.weights: {error}") from None
    known = tokenizer(task, base)
    return FrozenText.make(tower, config, known), params, known


def tokenizer(task: Mapping[str, Any], base: pathlib.Path) -> Tokenizer | None:
    """The tokenizer of the tower that `config.task` names; None where it names none.

    That of the run directory, once there is one; else the one that belongs to the weights.

    Raises:
      UserError: there is none, or one of another kind.
    """
    if not is_frozen(task):
        return None
    config = _config(task)
    tower = catalog.TOWERS[config.tower].make()
    if (base / layout.TOKENIZER).is_file():
        found = tokenizer_file.load(base / layout.TOKENIZER)
        if not isinstance(found, text_tokenizer.kind_of(tower)):
            raise UserError(
                f"{base / layout.TOKENIZER}: belongs to another text encoder than {config.tower}; "
                "name another run directory"
            )
        return found
    try:
        where = _located(config.vocabulary, base, "tokenizer")
        _check_weights(_located(config.weights, base))
        where = where or files.folder_of(_located(config.weights, base) or _hub(config))
        return text_tokenizer.find(config.tower, tower, where)
    except UserError as error:
        raise UserError(f"{_WHERE}.vocabulary: {error}") from None


def absolute(task: ConfigDict) -> None:
    """Makes the paths in `config.task` independent of the current folder, in place."""
    if is_frozen(task):
        for key in ("weights", "vocabulary"):
            task.text_encoder[key] = files.map_paths(
                task.text_encoder.get(key, ""),
                lambda part: os.path.abspath(part) if os.path.exists(part) else part,
            )


def export(task: ConfigDict, base: pathlib.Path, out: pathlib.Path) -> None:
    """Copies the tower of a run into `out`, and points `config.task` there.

    Weights that come from huggingface.co stay there.
    """
    found = _located(task.text_encoder.get("weights", ""), base)
    paths = files.paths(found)
    if not found or not paths[0].exists():
        return
    folder = out / "text"
    folder.mkdir()
    if paths[0].is_dir():
        for pattern in (*files.WEIGHTS, *files.HALF_PRECISION):
            for path in paths[0].glob(pattern):
                shutil.copy(path, folder)
        task.text_encoder.weights = folder.name
    else:
        for path in paths:
            shutil.copy(path, folder)
        task.text_encoder.weights = files.map_paths(
            found, lambda path: f"{folder.name}/{pathlib.Path(path).name}"
        )
    # The tokenizer is a file of the run.
    task.text_encoder.vocabulary = ""


def export_weights(
    task: ConfigDict, encoder: FrozenText, params: Mapping[str, Any], out: pathlib.Path
) -> None:
    """Writes the text encoder's parameters into `out`, and points `config.task` there.

    Args:
      task: `config.task` of the folder, whose text encoder may be there already.
      encoder: The text encoder.
      params: Parameters that take the place of the published ones.
      out: The folder of the run.
    """
    folder = out / "text"
    folder.mkdir(exist_ok=True)
    for path in (*folder.glob("*.safetensors"), *folder.glob("*.index*.json")):
        path.unlink()
    state = torch_from_flax(params, encoder.tower.port)
    weights.save(folder / layout.WEIGHTS, state, {"format": "pt"})
    task.text_encoder.weights, task.text_encoder.vocabulary = folder.name, ""


def _config(task: Mapping[str, Any]) -> TowerConfig:
    values = dict(task["text_encoder"])
    name = values.pop("name")
    config = build(TowerConfig, values, _WHERE)
    known = catalog.TOWERS.get(config.tower)
    if known is None or not isinstance(known.make(), FROZEN[name]):
        fit = [t for t, tower in catalog.TOWERS.items() if isinstance(tower.make(), FROZEN[name])]
        raise UserError(
            f"{_WHERE}.tower={config.tower!r}: name={name!r} takes one of {', '.join(fit)}"
        )
    return config


def _check_layer(config: TowerConfig, places: str) -> None:
    """Raises UserError if states are asked for that a pipeline's text encoder does not have."""
    folder = pathlib.Path(places)
    if config.layer != -1 and (folder.parent / sources.INDEX).is_file():
        raise UserError(
            f"{places}: a pipeline's text encoder ends with the states that are read; use "
            f"{_WHERE}.layer=-1"
        )


def _check_weights(places: str) -> None:
    """Raises UserError for weights that are neither there nor named as on huggingface.co."""
    for path in files.paths(places) if places else ():
        if not path.exists() and "/" not in str(path).strip("/"):
            raise UserError(
                f"{_WHERE}.weights={path}: no such file or folder; expected one, or a name on "
                "huggingface.co such as openai/clip-vit-large-patch14"
            )


def _hub(config: TowerConfig) -> str:
    return catalog.TOWERS[config.tower].hub or ""


def _located(places: str, base: pathlib.Path, component: str = "text_encoder") -> str:
    """Returns where weights lie: paths count from the run directory if they exist there.

    Of a pipeline the component that is asked for is found.
    """

    def one(part: str) -> str:
        known = str(base / part) if part and (base / part).exists() else part
        return sources.component(known, component) if known else known

    return files.map_paths(places, one)
