"""What a run or an output says of how it was made."""

import hashlib
import importlib.metadata
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import gen_jax
from gen_jax.common import checksum
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.runs import layout

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def environment() -> dict[str, Any]:
    """Versions, devices and the source's commit."""
    import jax

    return {
        "gen_jax": gen_jax.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": {p: importlib.metadata.version(p) for p in _PACKAGES},
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def run_manifest(
    config_sha256: str, seed: int, mesh: Mapping[str, int], data: Any, weights: Mapping[str, str]
) -> dict[str, Any]:
    """The manifest of a training run."""
    return {
        **environment(),
        "config_sha256": config_sha256,
        "seed": seed,
        "mesh": dict(mesh),
        "data": data,
        "frozen_weights_sha256": dict(weights),
    }


def check(path: pathlib.Path) -> None:
    """Compares the config and the tokenizer of a run with its manifest.

    Args:
      path: The run directory, or a folder of exported weights.

    Raises:
      UserError: The tokenizer is not the one that the run was trained with.
    """
    recorded = _read(path)
    want = (recorded.get("data") or {}).get("tokenizer_sha256")
    tokenizer = path / layout.TOKENIZER
    if want and tokenizer.is_file():
        have = checksum.of_file(tokenizer)
        # The library may have written the same tokenizer differently since.
        if want not in (have, tokenizer_file.load(tokenizer).digest):
            raise UserError(
                f"{tokenizer}: damaged, it is not the tokenizer that the run was trained with "
                f"(tokenizer_sha256 in {layout.MANIFEST}); put back a copy"
            )
    want = recorded.get("config_sha256")
    if want and (path / layout.CHECKPOINTS).is_dir():  # an exported config names other paths
        text = (path / layout.CONFIG).read_bytes().removesuffix(b"\n")
        if hashlib.sha256(text).hexdigest() != want:
            note(f"{path / layout.CONFIG}: edited or damaged since {layout.MANIFEST} was written")


def changed_weights(path: pathlib.Path, digests: Mapping[str, str]) -> list[str]:
    """Returns which models are not those that a run was trained on.

    Args:
      path: The run directory.
      digests: Name of a frozen model -> digest of the weights that are there now.
    """
    recorded = _read(path).get("frozen_weights_sha256") or {}
    return [name for name in sorted(digests) if recorded.get(name, digests[name]) != digests[name]]


def check_base(path: pathlib.Path, source: str, digest: str) -> None:
    """Compares the model that a run's low-rank factors adapt with the one they were trained on.

    Args:
      path: The run directory.
      source: Where the model was read from.
      digest: Digest of the weights that are there now.

    Raises:
      UserError: They are others.
    """
    if changed_weights(path, {"init": digest}):
        raise UserError(
            f"{path}: its low-rank factors were trained on other weights than those that "
            f"{source} has now; put those back"
        )


def note(text: str) -> None:
    """Prints a note on standard error."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest in a folder, empty if there is none."""
    file = path / layout.MANIFEST
    if not file.is_file():
        return {}
    try:
        recorded = layout.read_json(file, "a manifest")
    except UserError as error:
        note(f"{error}; config and tokenizer are not verified")
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _git() -> dict[str, Any]:
    """Commit and whether the tree differs from it; empty where there is no repository."""
    folder = pathlib.Path(__file__).resolve().parent

    def run(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # Results that lie about are not changes of the code.
        changes = run("status", "--porcelain", "--untracked-files=no")
        return {"commit": run("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {}
