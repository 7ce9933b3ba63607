"""Where a trained model lies: a folder, a packaged model, or a pipeline on the Hugging Face hub.

A source is written as a path, as `package:NAME`, or as `hub:OWNER/NAME[@REVISION]`.
"""

import os
import pathlib
import re

from gen_jax.common.errors import UserError

PACKAGED = pathlib.Path(__file__).resolve().parent.parent / "weights"
PACKAGE, HUB = "package:", "hub:"
INDEX = "model_index.json"
"""The file that makes a folder a diffusers pipeline."""

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_STEM = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_STEM["text_encoder"] = "model"
_SMALL_FILES = (INDEX, "*/config.json", "scheduler/scheduler_config.json", "tokenizer/*")
# The files of single precision first: they are what a release is judged by.
_INFIXES = ("", ".fp16")


def is_path(source: str) -> bool:
    """Returns whether a source is a path, rather than a name that means the same everywhere."""
    return not source.startswith((PACKAGE, HUB))


def absolute(source: str) -> str:
    """Returns a source that does not depend on the current folder."""
    return str(pathlib.Path(source).absolute()) if is_path(source) else source


def located(base: pathlib.Path, source: str) -> str:
    """Returns a source with its path, if it is one, counted from a run directory."""
    return str(base / source) if is_path(source) else source


def resolve(source: str) -> pathlib.Path:
    """Returns the folder that a source names; fetches it from the hub if it lies there.

    Raises:
      UserError: There is none.
    """
    if source.startswith(PACKAGE):
        name = source.removeprefix(PACKAGE)
        names = sorted(p.name for p in PACKAGED.glob("*") if p.is_dir())
        if name not in names:
            raise UserError(f"{source}: no such packaged model; there are {', '.join(names)}")
        return PACKAGED / name
    if source.startswith(HUB):
        return _fetched(source)
    path = pathlib.Path(source)
    if not path.is_dir():
        advice = f"; {HUB}{source} names a pipeline on huggingface.co" if _is_name(source) else ""
        raise UserError(f"{source}: no such folder; expected a run directory{advice}")
    return path


def is_pipeline(source: str) -> bool:
    """Returns whether a source is a whole pipeline of diffusers, of whatever kind."""
    return source.startswith(HUB) or (is_path(source) and (pathlib.Path(source) / INDEX).is_file())


def component(source: str, name: str) -> str:
    """Returns where a component of a pipeline lies; another source is returned as it is.

    Args:
      source: Where a model lies.
      name: The component, such as "vae".

    Raises:
      UserError: The pipeline cannot be fetched from the hub.
    """
    return str(resolve(source) / name) if is_pipeline(source) else source


def _is_name(source: str) -> bool:
    return _REPOSITORY.fullmatch(source) is not None and not source.startswith((".", "/"))


def _fetched(source: str) -> pathlib.Path:
    """Returns the local copy of a pipeline on the hub, without files that are not read.

    The weights of single precision are fetched, or those of half precision if there are no others.
    """
    match = _REPOSITORY.fullmatch(source.removeprefix(HUB))
    if match is None:
        raise UserError(
            f"{source}: expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION, such as "
            f"{HUB}stable-diffusion-v1-5/stable-diffusion-v1-5@main"
        )
    import huggingface_hub

    name, revision = match.groups()
    try:
        for infix in _INFIXES:
            wanted = [*_SMALL_FILES, *_weight_files(infix)]
            folder = huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=wanted
            )
            path = pathlib.Path(folder)
            if all(any((path / part).glob("*.safetensors")) for part in _STEM):
                break
    # Whatever fails in its many layers, the user needs the same two things.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{source}: could not be fetched from huggingface.co ({lines[0]}); check the name and "
            "the network, or name a local folder"
        ) from None
    return path


def _weight_files(infix: str) -> list[str]:
    """Returns the names of the weight files of a variant: in one file, or in shards."""
    return [
        f"{folder}/{pattern}"
        for folder, stem in _STEM.items()
        for pattern in (
            f"{stem}{infix}.safetensors",
            f"{stem}{infix}-*-of-*.safetensors",
            f"{stem}.safetensors.index{infix}.json",
        )
    ]


def name_of(path: pathlib.Path) -> str:
    """Returns how a folder is named for a reader: "package:NAME", or its path."""
    return f"{PACKAGE}{path.name}" if path.parent == PACKAGED else os.fspath(path)
