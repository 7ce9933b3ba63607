"""Where a tower's weights lie: a folder in Hugging Face's layout, files, or a name on its hub."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from gen_jax.common import archives, checksum
from gen_jax.common import files as common_files
from gen_jax.common.errors import UserError
from gen_jax.common.safetensors_io import from_bytes, load_safetensors, refuse_pickle
from gen_jax.encoders.torch_pickle import load_torch_pickle

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
PICKLE = "pickle:"
"""What stands before a file of torch.save; without it pickles are refused."""
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = ("config.json", _SINGLE, _INDEX, "model-*.safetensors")
"""Names of the files in a model folder that `find` reads."""
_HALF_SINGLE = "model.fp16.safetensors"
_HALF_INDEX = "model.safetensors.index.fp16.json"
HALF_PRECISION = (_HALF_SINGLE, _HALF_INDEX, "model.fp16-*.safetensors")
"""Names of the files that `find` reads if there are no others."""

# What a tokenizer is made of: it comes along.
_VOCABULARY = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Found weights.

    Attributes:
      where: what to call them in a message.
      state: torch key -> array, in the stored types.
      config: the parsed config.json beside them, if there is one.
    """

    where: str
    state: dict[str, np.ndarray]
    config: dict[str, Any] | None = None


def find(weights: str | os.PathLike) -> Weights:
    """Reads the weights that a user names.

    Args:
      weights: a folder with config.json and model.safetensors (or its shards and their index);
        a .safetensors file, or several with commas between, whose tensors are taken together;
        "FILE.zip:MEMBER" in the place of any of them, a .safetensors file inside a zip;
        "pickle:FILE" in the place of any of them, a state dict that torch.save wrote (see
        `torch_pickle`: no code in it runs);
        or a repository on the Hugging Face hub, "owner/name", fetched once and then cached.

    Raises:
      UserError: nothing there, a pickle, a git-lfs pointer, a file cut short, no network.
    """
    text = os.fspath(weights)
    path = pathlib.Path(text)
    if path.is_dir():
        return _folder(path)
    parts = text.split(",")
    if any(_is_file(part) for part in parts):
        state: dict[str, np.ndarray] = {}
        for part in parts:
            state |= _pickle(part) if part.startswith(PICKLE) else _file(pathlib.Path(part))
        return Weights(text, state)
    if _HUB.fullmatch(text):
        return _folder(_from_hub(text), text)
    raise _nothing_there(text)


def check_there(weights: str | os.PathLike) -> None:
    """Raises UserError if `find` would find neither a folder, nor a file, nor a name on the hub."""
    text = os.fspath(weights)
    is_local = pathlib.Path(text).is_dir() or any(_is_file(part) for part in text.split(","))
    if not is_local and not _HUB.fullmatch(text):
        raise _nothing_there(text)


def _nothing_there(text: str) -> UserError:
    return UserError(
        f"weights {text!r}: no such file or folder: expected a folder with config.json and "
        f"{_SINGLE}, a .safetensors file, or owner/name on huggingface.co"
    )


def folder_of(weights: str | os.PathLike) -> pathlib.Path:
    """The folder that weights lie in, named as in `find`; a vocabulary may lie beside them."""
    text = os.fspath(weights)
    path = paths(text)[0]
    if _HUB.fullmatch(text) and not path.exists():
        return _from_hub(text)
    return path if path.is_dir() else path.parent


def paths(weights: str) -> list[pathlib.Path]:
    """The paths in weights that are named as in `find`, if they are files or a folder."""
    return [pathlib.Path(part.removeprefix(PICKLE)) for part in weights.split(",")]


def map_paths(weights: str, change: Callable[[str], str]) -> str:
    """Weights named as in `find` with each path changed; "pickle:" stays where it stands."""
    changed = []
    for part in weights.split(","):
        path = part.removeprefix(PICKLE)
        changed.append(part.removesuffix(path) + change(path))
    return ",".join(changed)


def _folder(folder: pathlib.Path, where: str | None = None) -> Weights:
    where = where or str(folder)
    singles = [name for name in (_SINGLE, _HALF_SINGLE) if (folder / name).exists()]
    indices = [name for name in (_INDEX, _HALF_INDEX) if (folder / name).exists()]
    if singles:
        names = singles[:1]
    elif indices:
        names = sorted(set(_json(folder / indices[0]).get("weight_map", {}).values()))
    else:
        for pickle in sorted(folder.glob("pytorch_model*.bin")):
            refuse_pickle(pickle)
        there = sorted(p.name for p in folder.iterdir())[:6]
        raise UserError(
            f"{where}: holds no {_SINGLE} nor {_INDEX}, but {', '.join(there) or 'nothing'}: "
            "expected a model folder in Hugging Face's layout"
        )
    state: dict[str, np.ndarray] = {}
    for name in names:
        state |= _file(folder / name)
    if names == [_SINGLE]:
        checksum.check(folder / _SINGLE)
    config = folder / "config.json"
    return Weights(where, state, _json(config) if config.exists() else None)


def _is_file(part: str) -> bool:
    path = pathlib.Path(part)
    return part.startswith(PICKLE) or path.exists() or bool(path.suffix)


def _file(path: pathlib.Path) -> dict[str, np.ndarray]:
    if inside := archives.split(str(path)):
        return from_bytes(archives.read(*inside), path)
    refuse_pickle(
        path, f"name them as {PICKLE}{path}, which reads tensors and runs nothing, or convert them"
    )
    return load_safetensors(path)


def _pickle(part: str) -> dict[str, np.ndarray]:
    path = pathlib.Path(part.removeprefix(PICKLE))
    common_files.refuse_lfs_pointer(path)
    return load_torch_pickle(path)


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        parsed = json.loads(common_files.read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: no valid JSON ({error}): get the file again") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{path}: expected a JSON object: get the file again")
    return parsed


def _from_hub(name: str) -> pathlib.Path:
    import huggingface_hub

    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(name, allow_patterns=[*WEIGHTS, *_VOCABULARY])
        )
    # Whatever goes wrong in its many layers, the user needs the same two things.
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"weights {name!r}: neither a file nor a folder here, and not to be had from "
            f"huggingface.co ({first}): name a local folder or a .safetensors file"
        ) from None
