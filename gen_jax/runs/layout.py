"""What lies where in a run directory."""

import json
import os
import pathlib
import tempfile
from typing import Any

from gen_jax.common import files, strict_json
from gen_jax.common.errors import UserError

CONFIG = "config.json"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
REPORT = "report.json"
HTML = "report.html"
TOKENIZER = "tokenizer.json"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
WEIGHTS = "model.safetensors"
DONE = "done.json"


def make(folder: str | os.PathLike, name: str = "workdir") -> pathlib.Path:
    """Creates a folder for results and checks that files can be written to it.

    Args:
      folder: Path of the run directory or output folder. Its parents are created as well.
      name: What the path is called in the error message, such as "out".

    Returns:
      The absolute path.

    Raises:
      UserError: The folder cannot be created or written to.
    """
    path = pathlib.Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"{name}={folder}: cannot write there ({error.strerror}); "
            "name a folder that you may write to"
        ) from error
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
