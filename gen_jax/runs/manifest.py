"""What a run or an output says of how it was made."""

import importlib.metadata
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import gen_jax

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


def _git() -> dict[str, Any]:
    """Commit and whether the tree differs from it; empty where there is no repository."""
    folder = pathlib.Path(__file__).resolve().parent

    def run(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": run("rev-parse", "HEAD"), "dirty": bool(run("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}
