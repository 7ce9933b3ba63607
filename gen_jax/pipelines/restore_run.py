"""What a run restores, from its config alone, so that mistakes are named before JAX is loaded."""

import pathlib
from collections.abc import Mapping

from gen_jax.common.errors import UserError
from gen_jax.data.text import instruction_parser
from gen_jax.runs import layout, renamed, sources

GIVEN = {"sigma": "noise", "blur": "blur", "jpeg": "jpeg"}
"""Name of `data.degradations.PARAMETERS` -> name of the option that gives it by hand."""


_STAGES = ("restore", "restore_ldm")


def given_of(
    noise: float | int | None = None,
    blur: float | int | None = None,
    jpeg: float | int | None = None,
) -> dict[str, float]:
    """Returns strengths by hand by their names and in their units in `data.degradations`.

    Args:
      noise: Standard deviation of the noise, of 255 levels; None to estimate it.
      blur: Standard deviation of the blur in pixels; None to estimate it.
      jpeg: JPEG quality, 1 to 100; None to estimate it.
    """
    values = {"sigma": noise, "blur": blur, "jpeg": None if jpeg is None else 100 - jpeg}
    return {name: float(value) for name, value in values.items() if value is not None}


def check(source: str, prompt: str, given: Mapping[str, float], *, generates: bool = False) -> None:
    """Checks that a run restores images, and as it is asked to.

    Args:
      source: A run directory or `package:NAME`.
      prompt: The instruction; "" for none.
      given: Strengths by hand: name of `PARAMETERS` -> value.
      generates: Whether a setting of a generative stage is given.

    Raises:
      UserError: It is no run, of another stage, reads no text, generates nothing, or is not
        conditioned on what is given.
    """
    if source.startswith(sources.HUB):
        return  # named when it is read
    path = sources.resolve(source)
    if not (path / layout.CONFIG).is_file():
        return
    config = layout.read_json(path / layout.CONFIG, "a config")
    if "_class_name" in config or "model_type" in config:
        return
    task = renamed.current(config).get("task", {})
    refuse_other(path, task.get("name", "another"), task.get("name") in _STAGES)
    is_generative = task["name"] == "restore_ldm"
    if prompt and "text_encoder" not in task and not task.get("reads_text"):
        raise no_text(path)
    if generates and not is_generative:
        raise no_generation(path)
    if is_generative:
        return  # the restorer that it works on decides, once it is read
    name = task.get("network", {}).get("name", "")
    usable = tuple(GIVEN) if "estimator" in task else ("sigma",) if name == "ffdnet" else ()
    refuse_given(path, given, usable)


def notes(prompt: str) -> list[str]:
    """Returns lines on what of an instruction has no effect."""
    return [f"note: prompt: {note}" for note in instruction_parser.parse(prompt).notes]


def refuse_other(path: pathlib.Path, stage: str, restores: bool) -> None:
    """Raises UserError if a run is of a stage that restores nothing."""
    if not restores:
        raise UserError(
            f"run={path}: a run of the stage {stage!r}, which restores nothing; name a run of "
            "configs/restore.py"
        )


def no_text(path: pathlib.Path) -> UserError:
    """Returns the error of a prompt for a run that reads none."""
    return UserError(
        f"prompt: {path} reads no text; leave it out, or name a run of configs/restore_text.py"
    )


def no_generation(path: pathlib.Path) -> UserError:
    """Returns the error of generative settings for a run that generates nothing."""
    return UserError(
        f"generative: {path} generates nothing; leave out generative, seed, steps and guidance, or "
        "name a run of configs/restore_ldm.py"
    )


def refuse_given(path: pathlib.Path, given: Mapping[str, float], usable) -> None:
    """Raises UserError if a run is not conditioned on a strength that is given by hand."""
    for name in given:
        if name not in usable:
            raise UserError(
                f"{GIVEN.get(name, name)}: {path} is not conditioned on it; leave it out, or name "
                "a run with an estimator"
            )
