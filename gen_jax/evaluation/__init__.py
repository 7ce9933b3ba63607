"""Evaluators: predict functions + data -> numbers and images.

A new one is a line here, and a table of what its metrics mean in `meanings`.
"""

from collections.abc import Mapping
from typing import Any

from gen_jax.common import ranges
from gen_jax.common.build import build, class_of
from gen_jax.common.errors import UserError
from gen_jax.common.numbers import MAX_SEED
from gen_jax.evaluation import meanings as meanings_lib
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, SplitData

__all__ = [
    "EVALUATORS", "Data", "Evaluator", "Predictor", "Result", "build_evaluators", "check_data",
    "run_all",
]  # fmt: skip

# name -> "module:class"; loaded when asked for, so that a door starts quickly.
EVALUATORS = {
    "reconstruction": "gen_jax.evaluation.reconstruction:Reconstruction",
    "adjectives": "gen_jax.evaluation.adjectives:Adjectives",
    "art_samples": "gen_jax.evaluation.art_samples:ArtSamples",
    "change": "gen_jax.evaluation.change:Change",
    "class_retrieval": "gen_jax.evaluation.class_retrieval:ClassRetrieval",
    "codes": "gen_jax.evaluation.codes:Codes",
    "detail": "gen_jax.evaluation.detail:Detail",
    "captioned_images": "gen_jax.evaluation.captioned_images:CaptionedImages",
    "captioned_samples": "gen_jax.evaluation.captioned_samples:CaptionedSamples",
    "first_stage": "gen_jax.evaluation.latent_diffusion:FirstStage",
    "faces": "gen_jax.evaluation.faces:Faces",
    "interpolation": "gen_jax.evaluation.interpolation:Interpolation",
    "memorisation": "gen_jax.evaluation.memorisation:MemorisationAudit",
    "image_quality": "gen_jax.evaluation.image_quality:ImageQuality",
    "error_by_time": "gen_jax.evaluation.latent_diffusion:ErrorByTime",
    "generative_restoration": ("gen_jax.evaluation.generative_restoration:GenerativeRestoration"),
    "instructed": "gen_jax.evaluation.instructed:Instructed",
    "restoration_error": "gen_jax.evaluation.restoration_error:RestorationError",
    "restored_crops": "gen_jax.evaluation.restored_crops:RestoredCrops",
    "pictogram_accuracy": "gen_jax.evaluation.pictograms:PictogramAccuracy",
    "landmarks": "gen_jax.evaluation.landmarks:Landmarks",
    "plates": "gen_jax.evaluation.plates:Plates",
    "segmentation": "gen_jax.evaluation.segmentation:Segmentation",
    "samples": "gen_jax.evaluation.samples:Samples",
    "shapes_accuracy": "gen_jax.evaluation.shapes:ShapesAccuracy",
    "prompt_robustness": "gen_jax.evaluation.prompt_robustness:PromptRobustness",
    "prompt_accuracy": "gen_jax.evaluation.prompts:PromptAccuracy",
    "validation_loss": "gen_jax.evaluation.validation_loss:ValidationLoss",
    "word_attention": "gen_jax.evaluation.word_attention:WordAttention",
    "word_margins": "gen_jax.evaluation.word_margins:WordMargins",
}


# Whatever evaluator they belong to.
_RANGES = {
    "count": ranges.AT_LEAST_1,
    "train_count": ranges.AT_LEAST_1,
    "val_count": ranges.AT_LEAST_1,
    "train": ranges.AT_LEAST_1,
    "batch_size": ranges.AT_LEAST_1,
    "shown": ranges.AT_LEAST_1,
    "per_word": ranges.AT_LEAST_1,
    "components": ranges.AT_LEAST_1,
    "least": ranges.AT_LEAST_1,
    "k": ranges.AT_LEAST_1,
    "pairs": ranges.AT_LEAST_1,
    "frames": ranges.Range(2),
    "real_count": ranges.Range(2),
    "others": ranges.NOT_NEGATIVE,
    "heldout": ranges.NOT_NEGATIVE,
    "controls": ranges.NOT_NEGATIVE,
    "samples": ranges.NOT_NEGATIVE,
    "probe": ranges.NOT_NEGATIVE,
    "seed": ranges.Range(0, MAX_SEED),
}


def build_evaluators(
    config: Mapping[str, Mapping[str, Any]], stage: str, at_end: bool | None = None
) -> dict[str, Any]:
    """Builds `config.evaluators`: name -> its values.

    Two values belong to no evaluator in particular. `prefix` replaces the stage's name before the
    metrics' names. `at_end=True` makes an evaluator run at the last step of the training only.

    Args:
      config: Name of an evaluator -> its values.
      stage: Name of the stage.
      at_end: Whether to build those that run at the last step only (True) or the others (False);
        None builds all.

    Returns:
      name -> (prefix, evaluator).

    Raises:
      UserError: an unknown name or key, a number out of its range, or an encoder without weights.
    """
    out = {}
    for name, given in config.items():
        if name not in EVALUATORS:
            raise UserError(
                f"config.evaluators: unknown {name!r}; known are {', '.join(sorted(EVALUATORS))}"
            )
        values = dict(given)
        prefix, is_final = values.pop("prefix", stage), values.pop("at_end", False)
        cls = class_of(EVALUATORS, name, "config.evaluators")
        where = f"config.evaluators.{name}"
        if not isinstance(is_final, bool):
            raise UserError(f"{where}.at_end={is_final!r}: expected True or False")
        if at_end is not None and at_end != is_final:
            continue
        evaluator = build(cls, values, where)
        ranges.check_fields(evaluator, _RANGES, where)
        _check_encoders(evaluator, where)
        out[name] = (prefix, evaluator)
    return out


def _check_encoders(evaluator: Evaluator, where: str) -> None:
    from gen_jax.encoders import catalog

    for spec in filter(None, evaluator.encoders()):  # "" is an untrained network
        try:
            catalog.check(spec)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def check_data(evaluators: Mapping[str, tuple[str, Evaluator]], data: SplitData) -> tuple[str, ...]:
    """Looks, before any work, whether the evaluators will find what they read.

    Returns:
      A note for each split that has fewer images than would be read.

    Raises:
      UserError: No such split, too few images, a shard that is missing or damaged, or data that
        an evaluator cannot work on.
    """
    few: dict[str, list[str]] = {}
    for name, (_, evaluator) in evaluators.items():
        where = f"config.evaluators.{name}"
        for need in evaluator.reads():
            have = data.num_records(need.split)
            if have < need.least and not (need.is_optional and not have):
                raise UserError(_too_few(where, need, have, data))
            if have:
                data.check_split(need.split)
            if have < need.count:
                few.setdefault(need.split, []).append(f"{name} (up to {need.count})")
        try:
            evaluator.check(data)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return tuple(_few(split, names, data) for split, names in few.items())


def _few(split: str, evaluators: list[str], data: SplitData) -> str:
    if not (count := data.num_records(split)):
        return f"{data.folder} has no split {split!r}: {', '.join(evaluators)} read training images"
    names = ", ".join(evaluators)
    return f"the split {split!r} of {data.folder} has {count} images: {names} use all of them"


def _too_few(where: str, need: Reads, have: int, data: SplitData) -> str:
    known = ", ".join(f"{name} ({data.num_records(name)} images)" for name in data.splits)
    if have:
        return (
            f"{where} needs {need.least} images of split {need.split!r} or more, and "
            f"{data.folder} has {have}; prepare more of them, or leave the evaluator out"
        )
    return (
        f"{data.folder}: no split {need.split!r}, which {where} reads; there are {known}; prepare "
        f"the images again into another folder, with a larger {need.split}_fraction such as 0.2"
    )


def run_all(evaluators: Mapping[str, Any], predict: Predictor, data: Data) -> Result:
    """Runs them all; metrics become `prefix/name`, and get their meanings."""
    metrics, shown, notes, warnings, prompts, meanings = {}, {}, {}, {}, {}, {}
    before = predict.not_finite
    for name, (prefix, evaluator) in evaluators.items():
        predict.title = f"evaluating {name}"
        result = evaluator(predict, data)
        metrics |= {f"{prefix}/{k}": v for k, v in result.metrics.items()}
        notes |= {f"{prefix}/{k}": v for k, v in result.notes.items()}
        of_metrics = meanings_lib.of_all(name, result.metrics)
        meanings |= {f"{prefix}/{k}": v for k, v in of_metrics.items()}
        shown |= result.pictures
        prompts |= result.prompts
        warnings |= dict.fromkeys(result.warnings)  # each once
    if count := predict.not_finite - before:
        text = f"{count} generated images are not finite (NaN or Inf) and were measured as black"
        warnings[text] = None
    return Result(metrics, shown, notes, tuple(warnings), prompts, meanings)
