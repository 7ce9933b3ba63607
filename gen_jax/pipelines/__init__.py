"""Inference behind commands and notebooks: a trained run becomes a pipeline."""

from typing import Any

from gen_jax.common.build import class_of
from gen_jax.common.errors import UserError

# `Task.pipeline` -> "module:class", imported when it is used, so that commands start quickly.
PIPELINES = {
    "samples": "gen_jax.pipelines.sampling:Pipeline",
    "text_to_image": "gen_jax.pipelines.text_to_image:TextToImage",
    "faces": "gen_jax.pipelines.faces:Faces",
    "captioned": "gen_jax.pipelines.captioned:Captioned",
    "code_prior": "gen_jax.pipelines.code_prior:CodePrior",
}


def kind_of(model: Any) -> Any:
    """Returns the class of pipeline that samples from a `runs.reader.TrainedModel`.

    Raises:
      UserError: The run does not generate images.
    """
    kind = model.task.pipeline
    if kind not in PIPELINES or "generate" not in model.task.predict_fns():
        name = model.config.get("task", {}).get("name", "another library")
        advice = "use gen_jax.restore" if kind == "restoration" else "name a run of another stage"
        raise UserError(f"{model.path}: a run of {name} does not generate images; {advice}")
    return class_of(PIPELINES, kind, "pipeline")


def load(model: Any, **settings: Any) -> Any:
    """Returns the pipeline of a trained model, see `kind_of` and `sampling.Pipeline`."""
    return kind_of(model)(model, **settings)
