"""Changes to how a trained model samples: its settings, a guiding model, a refiner."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.diffusion import mean_flow
from gen_jax.diffusion.guidance import checked_interval
from gen_jax.diffusion.samplers import SAMPLERS
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.autoguidance import AutoguidedArtTask
from gen_jax.tasks.vqvae import ENCODER

MAX_GUIDANCE, MAX_STEPS, MAX_TEMPERATURE = 50, 10_000, 10
"""Limits of the settings: images are never better beyond them."""

_RANGES = {
    "guidance_scale": (float, 0, MAX_GUIDANCE),
    "guidance_rescale": (float, 0, 1),
    "num_inference_steps": (int, 1, MAX_STEPS),
    "temperature": (float, 0, MAX_TEMPERATURE),
    "choice_temperature": (float, 0, None),
    "top_p": (float, 0.01, 1),
    "repetition_penalty": (float, 1, 10),
}


def resampled(model: TrainedModel, **settings: Any) -> TrainedModel:
    """Returns the model with other settings of sampling.

    Args:
      model: A run.
      **settings: Names in `Task.sampling_settings` -> values; None keeps the run's own.

    Raises:
      UserError: A value is out of its range, or the run has no such setting.
    """
    changes = {name: value for name, value in settings.items() if value is not None}
    known = model.task.sampling_settings()
    for name, value in changes.items():
        if name in _RANGES:
            changes[name] = numbers.parse(value, name, *_RANGES[name])
        if name not in known:
            own = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(
                f"{name}={value}: {model.path} is a run of {stage_of(model)} without this setting; "
                f"{own}"
            )
    samplers = (*SAMPLERS, mean_flow.SAMPLER)
    if changes.get("sampler", "ddim") not in samplers:
        raise UserError(f"sampler={changes['sampler']}: expected one of {', '.join(samplers)}")
    if "guidance_interval" in changes:
        interval = checked_interval(changes["guidance_interval"], "guidance_interval")
        changes["guidance_interval"] = interval
    return dataclasses.replace(model, task=model.task.with_settings(**changes))


def stage_of(model: TrainedModel) -> str:
    """Returns the name of the stage that a run trained, as its config has it."""
    return model.config.get("task", {}).get("name", "another library")


def guided_by(model: TrainedModel, guiding: TrainedModel, scale: float | int = 2.0) -> TrainedModel:
    """Returns a code prior whose samples are led away from a weaker one's (arXiv:2406.02507).

    Args:
      model: A run of the art stage.
      guiding: A run of a weaker prior over the same codes and the same words, masked if it is.
      scale: How far samples are led away, 1 for not at all.

    Raises:
      UserError: The runs do not belong together, or the scale is out of its range.
    """
    numbers.parse(scale, "guiding_scale", float, 0, MAX_GUIDANCE)
    for run in (model, guiding):
        if run.task.pipeline != "code_prior":
            raise UserError(
                f"{run.path}: autoguidance needs runs of configs/art.py; this is a run of "
                f"{stage_of(run)}"
            )
    if model.task.prior.is_causal != guiding.task.prior.is_causal:
        raise UserError(
            f"{guiding.path}: one of the priors is masked and one is ordered; a guiding model must "
            "predict the same codes at each step"
        )
    if not has_same_codes(model, guiding):
        raise UserError(
            f"{guiding.path}: its codes are not those of {model.path}; both need one VQ-VAE"
        )
    words = [m.tokenizer() for m in (model, guiding)]
    lengths = [m.task.text_encoder.max_length for m in (model, guiding)]
    if words[0].digest != words[1].digest or lengths[0] != lengths[1]:
        raise UserError(
            f"{guiding.path}: its tokens are not those of {model.path}, or their number differs "
            f"(at most {lengths[1]} and {lengths[0]})"
        )
    task = AutoguidedArtTask.of(model.task, guiding.task, scale)
    theirs = {"params": guiding.variables["params"]["model"], "frozen": dict(guiding.frozen)}
    return dataclasses.replace(model, task=task, frozen={**model.frozen, "guide": theirs})


def with_refiner(model: TrainedModel, refiner: TrainedModel) -> TrainedModel:
    """Returns a code prior to whose images a residual refiner adds fine detail.

    Args:
      model: A run of the art stage.
      refiner: A run of configs/detail.py that was trained on the same VQ-VAE.

    Raises:
      UserError: The runs do not belong together.
    """
    if model.task.pipeline != "code_prior":
        raise UserError(
            f"{refiner.path}: a refiner works on images of a run of configs/art.py; {model.path} "
            f"is a run of {stage_of(model)}"
        )
    if not refiner.task.is_refiner:
        raise UserError(
            f"{refiner.path}: expected a run of configs/detail.py; this is a run of "
            f"{stage_of(refiner)}"
        )
    if not _same(model, refiner, lambda vqvae: vqvae):
        raise UserError(
            f"{refiner.path}: it was trained on another VQ-VAE; train it with "
            f"config.frozen.vqvae as {model.path} has it"
        )
    task = dataclasses.replace(model.task, detail=refiner.task)
    frozen = {**model.frozen, "detail": refiner.task.as_frozen(refiner.variables)}
    return dataclasses.replace(model, task=task, frozen=frozen)


def has_same_codes(model: TrainedModel, other: TrainedModel) -> bool:
    """Returns whether a code means the same to two runs; their decoders may differ."""
    return _same(model, other, _encoder_and_codebook)


def _same(model, other, part) -> bool:
    shapes = [(m.task.vqvae.quantizer, m.task.vqvae.grid) for m in (model, other)]
    mine, theirs = (part(m.frozen["vqvae"]) for m in (model, other))
    if shapes[0] != shapes[1] or jax.tree.structure(mine) != jax.tree.structure(theirs):
        return False
    return all(map(_is_close, jax.tree.leaves(mine), jax.tree.leaves(theirs)))


def _encoder_and_codebook(vqvae):
    encoder = {k: v for k, v in vqvae["params"].items() if re.match(ENCODER, k)}
    return vqvae["codebook"], encoder


def _is_close(x, y) -> bool:
    """Returns whether arrays agree up to the 16 bits in which one may have been exported."""
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-2, atol=1e-3)
