"""What lies where in a run directory."""

import json
import os
import pathlib
from typing import Any

from gen_jax.common import files, outputs, strict_json
from gen_jax.common.errors import UserError

CONFIG = "config.json"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
EPOCHS = "metrics.json"
REPORT = "report.json"
HTML = "report.html"
TOKENIZER = "tokenizer.json"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
WEIGHTS = "model.safetensors"
LORA = "lora.safetensors"
DIFFUSERS_LORA = "pytorch_lora_weights.safetensors"
KOHYA_LORA = "kohya_lora.safetensors"
DONE = "done.json"


def make(folder: str | os.PathLike, name: str = "workdir") -> pathlib.Path:
    """Creates a folder for results once it is known that files can be written there.

    Args:
      folder: Path of the run directory or output folder. Its parents are created as well.
      name: What the path is called in the error message, such as "out".

    Returns:
      The absolute path.

    Raises:
      UserError: The folder cannot be created or written to, see `outputs.check_folder`.
    """
    path = outputs.check_folder(folder, name)
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes strict JSON, indented; see `common.strict_json` for numbers that are not finite."""
    files.write_text(path, strict_json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: pathlib.Path, what: str) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: it is missing or no JSON; the message says `what` it should have been.
    """
    try:
        return strict_json.loads(files.read_text(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected {what}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, not JSON ({error}); expected {what}") from error
