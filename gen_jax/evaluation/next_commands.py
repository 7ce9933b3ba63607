"""The commands that use a trained run, for its report."""

import pathlib
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_INSTRUCTION = "remove the noise, keep the blur"


def of_run(
    config: Mapping[str, Any],
    predict_fns: Collection[str],
    workdir: pathlib.Path,
    prompts: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Returns purpose -> command, as the kind of run allows.

    Args:
      config: Config of the run, plain values.
      predict_fns: Names of the task's predict functions.
      workdir: The run directory.
      prompts: `Result.prompts` of its evaluation, the first of which serves as an example.
    """
    name, is_conditional = workdir.name, bool(config["task"].get("text_encoder"))
    prompt = next((text for texts in prompts.values() for text in texts if text), "a photo")
    commands = {}
    if "generate" in predict_fns:
        given = {"prompt": prompt} if is_conditional else {}
        commands["Generate images:"] = _command(
            "generate", run=workdir, **given, num=8, out=f"out/{name}"
        )
    elif "restore" in predict_fns:
        given = {"prompt": _INSTRUCTION} if is_conditional else {}
        commands["Restore a photo:"] = _command(
            "restore", "photo.jpg", run=workdir, **given, out="restored.png"
        )
    if config.get("evaluators"):
        commands["Evaluate it again:"] = _command("evaluate", run=workdir, out=f"{name}.json")
    layout = "huggingface" if "features" in predict_fns else "safetensors"
    commands["Export its weights:"] = _command(
        "export", run=workdir, format=layout, out=f"{name}_weights"
    )
    return commands


def _command(module: str, *arguments: str, **flags: Any) -> str:
    """Returns a command line, quoted for a shell."""
    quoted = [f"--{key}={shlex.quote(str(value))}" for key, value in flags.items()]
    return " ".join(["python", "-m", f"gen_jax.{module}", *arguments, *quoted])
