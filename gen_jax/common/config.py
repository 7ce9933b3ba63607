"""The `--config=FILE[:ARG]` flag, and a config as plain JSON."""

import hashlib
import json
import pathlib
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from gen_jax.common.errors import UserError


def define(help_text: str) -> flags.FlagHolder:
    """Declares `--config=FILE[:ARG]` together with its overrides `--config.key.sub=value`."""
    return config_flags.DEFINE_config_file("config", None, help_text, lock_config=True)


def value(flag: flags.FlagHolder) -> ml_collections.ConfigDict:
    """The parsed config.

    Raises:
      UserError: the flag is missing, or the file cannot be read or gives no ConfigDict.
    """
    config = flag.value
    if config is None:
        raise UserError("--config is missing: name a recipe, for example --config=configs/ldm.py")
    if not isinstance(config, ml_collections.ConfigDict):
        # config_flags defers what went wrong in the file to the first access.
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        try:
            config.task  # noqa: B018
        except UserError:
            raise
        except Exception as error:
            if not pathlib.Path(path.split(":")[0]).is_file():
                raise UserError(
                    f"--config={path}: no such file; see the recipes in configs/"
                ) from error
            raise UserError(f"--config={path}: {type(error).__name__}: {error}") from error
    return config


def to_json(config: ml_collections.ConfigDict | dict[str, Any]) -> str:
    """The config as JSON text with sorted keys (tuples become lists)."""
    plain = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    return json.dumps(plain, indent=2, sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
    """Reads a config back; every list becomes a tuple, so that it hashes."""
    config = ml_collections.ConfigDict(_tuples(json.loads(text)))
    config.lock()
    return config


def digest(config: ml_collections.ConfigDict | dict[str, Any]) -> str:
    """SHA-256 of the config's JSON."""
    return hashlib.sha256(to_json(config).encode()).hexdigest()


def _tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _tuples(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return tuple(_tuples(v) for v in tree)
    return tree
