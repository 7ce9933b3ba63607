"""Evaluators: predict functions + data -> numbers and pictures. A new one is a line here."""

import importlib
from collections.abc import Mapping
from typing import Any

from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Result

__all__ = ["EVALUATORS", "Data", "Evaluator", "Predictor", "Result", "build_evaluators", "run_all"]

# name -> "module:class"; loaded when asked for, so that a door starts quickly.
EVALUATORS = {
    "reconstruction": "gen_jax.evaluation.reconstruction:Reconstruction",
    "adjectives": "gen_jax.evaluation.adjectives:Adjectives",
    "art_samples": "gen_jax.evaluation.art_samples:ArtSamples",
    "class_retrieval": "gen_jax.evaluation.class_retrieval:ClassRetrieval",
    "codes": "gen_jax.evaluation.codes:Codes",
    "detail": "gen_jax.evaluation.detail:Detail",
    "first_stage": "gen_jax.evaluation.first_stage:FirstStage",
    "faces": "gen_jax.evaluation.faces:Faces",
    "interpolation": "gen_jax.evaluation.interpolation:Interpolation",
    "memorisation": "gen_jax.evaluation.memorisation:MemorisationAudit",
    "image_quality": "gen_jax.evaluation.image_quality:ImageQuality",
    "error_by_time": "gen_jax.evaluation.denoising:ErrorByTime",
    "instructed": "gen_jax.evaluation.instructed:Instructed",
    "restored_crops": "gen_jax.evaluation.restored_crops:RestoredCrops",
    "samples": "gen_jax.evaluation.samples:Samples",
    "shapes_accuracy": "gen_jax.evaluation.shapes:ShapesAccuracy",
    "prompt_robustness": "gen_jax.evaluation.prompt_robustness:PromptRobustness",
    "prompt_accuracy": "gen_jax.evaluation.prompts:PromptAccuracy",
    "word_attention": "gen_jax.evaluation.word_attention:WordAttention",
    "word_margins": "gen_jax.evaluation.word_margins:WordMargins",
}


def build_evaluators(config: Mapping[str, Mapping[str, Any]], stage: str) -> dict[str, Any]:
    """Builds `config.evaluators`: name -> its values.

    A value `prefix` replaces the stage's name before the metrics' names.

    Returns:
      name -> (prefix, evaluator).

    Raises:
      UserError: an unknown name or key.
    """
    out = {}
    for name, given in config.items():
        if name not in EVALUATORS:
            raise UserError(
                f"config.evaluators: unknown {name!r}; known are {', '.join(sorted(EVALUATORS))}"
            )
        values = dict(given)
        prefix = values.pop("prefix", stage)
        module, cls = EVALUATORS[name].split(":")
        cls = getattr(importlib.import_module(module), cls)
        out[name] = (prefix, build(cls, values, f"config.evaluators.{name}"))
    return out


def run_all(evaluators: Mapping[str, Any], predict: Predictor, data: Data) -> Result:
    """Runs them all; metrics become `prefix/name`."""
    metrics, shown, notes, warnings = {}, {}, {}, {}
    before = predict.not_finite
    for prefix, evaluator in evaluators.values():
        result = evaluator(predict, data)
        metrics |= {f"{prefix}/{k}": v for k, v in result.metrics.items()}
        notes |= {f"{prefix}/{k}": v for k, v in result.notes.items()}
        shown |= result.pictures
        warnings |= dict.fromkeys(result.warnings)  # each once
    if count := predict.not_finite - before:
        text = f"{count} generated images are not finite (NaN or Inf) and were measured as black"
        warnings[text] = None
    return Result(metrics, shown, notes, tuple(warnings))
