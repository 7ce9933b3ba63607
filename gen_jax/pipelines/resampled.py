"""A run that samples otherwise than its config says."""

import dataclasses

from gen_jax.common.errors import UserError
from gen_jax.runs.reader import TrainedModel


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
    if guidance is not None and not 0.0 <= guidance <= 20.0:
        raise UserError(f"--guidance={guidance}: expected 0 to 20, 1 for none")
    if temperature is not None and not 0.0 <= temperature <= 10.0:
        raise UserError(f"--temperature={temperature}: expected 0 to 10")
    prior = getattr(model.task, "prior", None)
    if steps is not None and prior is not None and prior.is_causal:
        raise UserError(
            f"--steps={steps}: {model.path} draws one code after the other; leave it out"
        )
    if steps is not None and steps < 1:
        raise UserError(f"--steps={steps}: expected at least 1")
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
