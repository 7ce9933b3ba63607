"""Whether a run directory belongs to a config: a run is resumed, never continued as another."""

import json
import pathlib
from typing import Any

import ml_collections

from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.runs import layout, renamed
from gen_jax.training.defaults import complete

# What may change between two starts of one run: sections, and keys of sections.
_SECTIONS = ("mesh", "sharding", "evaluators", "tensorboard", "requires")
_KEYS = {
    "training": (
        *("log_every", "eval_every", "checkpoint_every", "keep", "profile_steps"),
        *("eval_every_epochs", "checkpoint_every_epochs", "keep_every_epochs"),
        *("best_metric", "best_mode", "patience"),
    ),
    "data": ("num_threads", "num_workers", "cache", "verify", "max_bad_records"),
}


def check_same_run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Compares a config with the config.json of a run that has begun, if there is one.

    Raises:
      UserError: The folder holds another run.
    """
    path = workdir / layout.CONFIG
    if not path.exists():
        return
    expected = "the config of a run; put back a copy, or delete it to resume"
    recorded = renamed.current(layout.read_json(path, expected))
    # Both with all defaults: a recipe may state what it left to a default before.
    recorded = json.loads(config_lib.to_json(complete(ml_collections.ConfigDict(recorded))))
    given = json.loads(config_lib.to_json(complete(config.copy_and_resolve_references())))
    for tree in (recorded, given):
        for section in _SECTIONS:
            tree.pop(section, None)
        for section, keys in _KEYS.items():
            for key in keys:
                tree[section].pop(key, None)
    if difference := _difference(recorded, given):
        key, old, new = difference
        raise UserError(
            f"workdir={workdir} holds a run with config.{key}={old!r}, this config has "
            f"{new!r}; name another folder, or give the old value to resume"
        )


def _difference(a: Any, b: Any, prefix: str = "") -> tuple[str, Any, Any] | None:
    """Returns the first key that differs, and both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            if difference := _difference(a.get(key), b.get(key), f"{prefix}{key}."):
                return difference
        return None
    return None if a == b else (prefix.rstrip("."), a, b)
