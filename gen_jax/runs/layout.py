"""What lies where in a run directory."""

import json
import os
import pathlib
import tempfile
from typing import Any

from gen_jax.common import files
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


def make(workdir: str | os.PathLike) -> pathlib.Path:
    """Creates the run directory and shows that it can be written to.

    Raises:
      UserError: it cannot be made or written.
    """
    path = pathlib.Path(workdir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot write there ({error.strerror}); "
            "name a folder that you may write to"
        ) from error
    return path


def write_json(path: pathlib.Path, value: Any) -> None:
    """`files.write_text` of indented JSON."""
    files.write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: pathlib.Path, what: str) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: it is missing or no JSON; the message says `what` it should have been.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected {what}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, not JSON ({error}); expected {what}") from error
