"""Samples one image again from its manifest, in a batch of the shape that made it."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen_jax import pipelines
from gen_jax.common import checksum
from gen_jax.common.errors import UserError
from gen_jax.pipelines import image_files, requests
from gen_jax.pipelines.model_changes import guided_by, with_refiner
from gen_jax.pipelines.sampling import Pipeline, Request
from gen_jax.runs import lora, reader
from gen_jax.runs.reader import TrainedModel

Key = tuple[Any, ...]
"""What a model is read by; see `key_of`."""


def key_of(facts: Mapping[str, Any]) -> Key:
    """Returns the source, step, dtype, LoRA files, guiding run and refiner of a manifest."""
    step = facts["checkpoint_step"]
    files = tuple((e["path"], e["sha256"], float(e["scale"])) for e in facts.get("lora", ()))
    guiding = None
    if "guiding_run" in facts:
        guiding = facts["guiding_run"], facts["guiding_sha256"], facts["guiding_scale"]
    refiner = (facts["refiner"], facts["refiner_sha256"]) if "refiner" in facts else None
    source = facts["run"], "best" if step is None else str(step), facts.get("dtype")
    return (*source, files, guiding, refiner)


def read_model(key: Key) -> TrainedModel:
    """Reads a model with its LoRA files, guiding run and refiner.

    Raises:
      UserError: One of them is missing, or is not the one that was recorded.
    """
    run, step, dtype, files, guiding, refiner = key
    model = reader.load(run, step, dtype)
    for path, digest, _ in files:
        _check_file(path, digest)
    model = lora.merge_all(model, [(path, scale) for path, _, scale in files])
    if guiding:
        model = guided_by(model, _read(*guiding[:2]), guiding[2])
    return with_refiner(model, _read(*refiner)) if refiner else model


def image(model: TrainedModel, facts: Mapping[str, Any]) -> np.ndarray:
    """Returns the image that a manifest describes, uint8 [h, w, 3].

    Raises:
      UserError: A file that it names is missing, or is not the one that was recorded.
    """
    kind = pipelines.kind_of(model)
    known = {*model.task.sampling_settings(), *({"weights"} & kind.options(model.task))}
    settings = {name: _number(facts[name]) for name in known if name in facts}
    pipe, rows = kind(model, **settings), facts["batch"]
    if "images" in facts:
        return _described(pipe, facts)
    built = requests.build(pipe, _inputs(pipe, facts)).request
    at = facts.get("frame", facts.get("neighbor", 0))
    samples = pipe.sample(_repeated(built, at, rows), rows)
    return samples.images[0]


def _inputs(pipe: Pipeline, facts: Mapping[str, Any]) -> requests.Inputs:
    """Returns what `generate` was called with, for one prompt and one image."""
    changed, mask = (_file(facts, key) for key in ("image", "mask"))
    style = _file(facts, "style_image")
    return requests.Inputs(
        prompts=[facts["prompt"]],
        negative_prompt=facts.get("negative_prompt", ""),
        num=facts.get("neighbor", 0) + 1,
        seed=facts["seed"],
        passed=facts.get("interpolate", ()),
        frames=facts.get("frames", 16),
        path=facts.get("path", "slerp"),
        near=facts.get("near"),
        distance=facts.get("distance", 0.3),
        style_image=pipe.style_image(style) if style else None,
        images=[image_files.read(changed)] if changed else [],
        masks=[image_files.read(mask, "black")] if mask else [],
        strength=facts.get("strength"),
        composite=facts.get("composite", True),
        size=facts.get("size"),
        tile=facts.get("tile"),
    )


def _repeated(request: Request, row: int, rows: int) -> Request:
    """Returns a request for copies of one row, because bits depend on the shape of a batch."""

    def copies(values: Sequence[Any]) -> list[Any]:
        return [values[row]] * rows if len(values) else []

    latents = request.latents
    return Request(
        seeds=copies(request.seeds),
        prompts=copies(request.prompts),
        negative_prompt=request.negative_prompt,
        latents=None if latents is None else np.stack(copies(latents)),
        style_image=request.style_image,
        images=copies(request.images),
        masks=copies(request.masks),
        strength=request.strength,
        composite=request.composite,
        size=request.size,
        tile=request.tile,
    )


def _described(pipe: Any, facts: Mapping[str, Any]) -> np.ndarray:
    """Decodes an image again from its latents, of a model that writes captions."""
    index, rows = facts["index"], facts["batch"]
    path = facts["images"][index]
    _check_file(path, facts["images_sha256"][index])
    pixels = [image_files.read(path)] * rows
    if style := _file(facts, "style_image"):
        return pipe.redrawn(pixels, image_files.read(style), rows).images[0]
    return pipe.describe(pixels, rows).images[0]


def _file(facts: Mapping[str, Any], key: str) -> str | None:
    """Returns the path of a file that a manifest names under a key, checked; None for no file."""
    if key not in facts:
        return None
    _check_file(facts[key], facts[f"{key}_sha256"])
    return facts[key]


def _check_file(path: str, digest: str) -> None:
    if not pathlib.Path(path).is_file():
        raise UserError(f"{path} is not here")
    if checksum.of_file(pathlib.Path(path)) != digest:
        raise UserError(f"{path} is not the file that was used (its SHA-256 is another)")


def _read(source: str, digest: str) -> TrainedModel:
    model = reader.load(source)
    if model.digest != digest:
        raise UserError(f"{source} has other weights now than the manifest names")
    return model


def _number(value: Any) -> Any:
    """Returns a setting with numbers that are not finite as floats again (see `strict_json`)."""
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value
