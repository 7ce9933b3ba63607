"""A run of the stage art with a weaker one that guides it."""

import dataclasses

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.pipelines.resampled import MAX_GUIDANCE
from gen_jax.pipelines.same_codes import same_codes
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.art import ArtTask
from gen_jax.tasks.autoguidance import AutoguidedArtTask


def guided_by(model: TrainedModel, guide: TrainedModel, scale: float = 2.0) -> TrainedModel:
    """The model whose samples are taken away from the guide's (`tasks.autoguidance`).

    Args:
      model: a prior over codes.
      guide: a weaker one over the same codes that reads the same words, masked if it is.
      scale: how far, 1 for not at all.

    Raises:
      UserError: they do not belong together, or the scale makes no sense.
    """
    numbers.parse(scale, "--guide_scale", float, 0, MAX_GUIDANCE)
    for run in (model, guide):
        if not isinstance(run.task, ArtTask):
            raise UserError(
                f"{run.path}: guided sampling needs runs of configs/art.py; this is one of "
                f"{run.config.task.name}"
            )
    if model.task.prior.is_causal != guide.task.prior.is_causal:
        raise UserError(
            f"--guide={guide.path}: one of the priors is masked and one in order; a guide fills "
            "in the same places"
        )
    if not same_codes(model, guide):
        raise UserError(
            f"--guide={guide.path}: its codes are not those of {model.path}; both need one VQ-VAE"
        )
    words = [tokenizer_file.load(m.path / layout.TOKENIZER) for m in (model, guide)]
    lengths = [m.task.text_encoder.max_length for m in (model, guide)]
    if words[0].digest != words[1].digest or lengths[0] != lengths[1]:
        raise UserError(
            f"--guide={guide.path}: it does not read what {model.path} reads: its tokens or their "
            f"number differ (at most {lengths[1]} and {lengths[0]})"
        )
    own = {f.name: getattr(model.task, f.name) for f in dataclasses.fields(model.task)}
    task = AutoguidedArtTask(**own, guide=guide.task, guide_scale=scale)
    theirs = {"params": guide.variables["params"]["model"], "frozen": dict(guide.frozen)}
    return dataclasses.replace(model, task=task, frozen={**model.frozen, "guide": theirs})
