"""A run that samples otherwise than its config says."""

import dataclasses

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.runs.reader import TrainedModel

MAX_GUIDANCE, MAX_STEPS, MAX_TEMPERATURE = 50, 10_000, 10
"""Limits of what can be asked for: beyond them images are never better."""


def resampled(
    model: TrainedModel,
    guidance: float | None = None,
    steps: int | None = None,
    temperature: float | None = None,
) -> TrainedModel:
    """The model with other settings of sampling; None leaves the run's own.

    Args:
      model: a run whose task has what is changed.
      guidance: how far from what is drawn without the text, 1 for none.
      steps: of the sampler, or of a masked prior.
      temperature: of codes drawn by a prior, 0 for the likeliest.

    Raises:
      UserError: one of them makes no sense, or the run has no such setting.
    """
    for name, value, kind, low, high in (
        ("--guidance", guidance, float, 0, MAX_GUIDANCE),
        ("--steps", steps, int, 1, MAX_STEPS),
        ("--temperature", temperature, float, 0, MAX_TEMPERATURE),
    ):
        if value is not None:
            numbers.parse(value, name, kind, low, high)
    prior = getattr(model.task, "prior", None)
    if steps is not None and prior is not None and prior.is_causal:
        raise UserError(
            f"--steps={steps}: {model.path} draws one code after the other; leave it out"
        )
    fields = {
        "guidance": ("guidance_scale", guidance),
        "steps": ("num_inference_steps", steps),
        "temperature": ("temperature", temperature),
    }
    changes = {}
    for flag, (name, value) in fields.items():
        if value is None:
            continue
        if not hasattr(model.task, name):
            raise UserError(
                f"--{flag}: {model.path} is a run of {model.config.task.name}, which has no such "
                "setting; leave it out"
            )
        changes[name] = value
    return dataclasses.replace(model, task=dataclasses.replace(model.task, **changes))
