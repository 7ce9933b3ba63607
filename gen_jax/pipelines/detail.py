"""A run of the stage art whose pictures get the detail of a run of the stage detail."""

import dataclasses

from gen_jax.common.errors import UserError
from gen_jax.pipelines.same_codes import same_pictures
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.art import ArtTask
from gen_jax.tasks.detail import DetailTask


def with_detail(model: TrainedModel, detail: TrainedModel) -> TrainedModel:
    """The model, of whose pictures each gets the detail that its own seed draws.

    Args:
      model: a prior over codes.
      detail: a run of configs/detail.py that learned on the pictures of the same decoder.

    Raises:
      UserError: they do not belong together.
    """
    if not isinstance(model.task, ArtTask):
        raise UserError(
            f"--detail={detail.path}: detail is added to the pictures of a run of configs/art.py; "
            f"{model.path} is one of {model.config.task.name}"
        )
    if not isinstance(detail.task, DetailTask):
        raise UserError(
            f"--detail={detail.path}: expected a run of configs/detail.py; this is one of "
            f"{detail.config.task.name}"
        )
    if not same_pictures(model, detail):
        raise UserError(
            f"--detail={detail.path}: it learned what another decoder leaves out; train it with "
            f"--config.frozen.vqvae as {model.path} has it"
        )
    task = dataclasses.replace(model.task, detail=detail.task)
    frozen = {**model.frozen, "detail": detail.task.as_frozen(detail.variables)}
    return dataclasses.replace(model, task=task, frozen=frozen)
