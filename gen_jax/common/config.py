"""The `--config=FILE[:ARG]` flag, and a config as plain JSON."""

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from gen_jax.common import overrides, paths, recipes, strict_json
from gen_jax.common.build import as_tuples
from gen_jax.common.errors import UserError


def define(
    help_text: str,
    complete: Callable[[ml_collections.ConfigDict], ml_collections.ConfigDict],
) -> flags.FlagHolder:
    """Declares `--config=FILE[:ARG]` together with its overrides `--config.key.sub=value`.

    Args:
      help_text: Text of `--help`.
      complete: Adds the keys to a recipe that it leaves out and that overrides may set.

    Parsing the flag raises UserError where the file cannot be read or gives no ConfigDict, or
    an override does not fit.
    """
    holder = config_flags.DEFINE_config_file("config", None, help_text, lock_config=True)
    flag = flags.FLAGS["config"]
    flag.parser = _CheckedParser(flag.parser, complete)
    return holder


class _CheckedParser(flags.ArgumentParser):
    """The config of a file, once it is known that the overrides fit it."""

    def __init__(self, parser: flags.ArgumentParser, complete):
        self._parser, self._complete = parser, complete

    def parse(self, argument: str) -> ml_collections.ConfigDict:
        config = self._parser.parse(recipes.resolve(argument, "--config"))
        if not isinstance(config, ml_collections.ConfigDict):
            raise UserError(f"--config={argument}: {_fault(config)}")
        config = self._complete(config)
        arguments = flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
        overrides.check(config, arguments)
        return config

    def flag_type(self) -> str:
        return self._parser.flag_type()


def _fault(found: Any) -> str:
    """Why there is no config in a file."""
    try:
        getattr(found, "data", None)  # config_flags defers what went wrong to the first access
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return f"its get_config gives a {type(found).__name__}, expected a ConfigDict"


def value(flag: flags.FlagHolder) -> ml_collections.ConfigDict:
    """Returns the parsed config, in whose texts `~` is expanded.

    Raises:
      UserError: the flag is missing, or a text begins with the home folder of nobody.
    """
    if flag.value is None:
        raise UserError("--config is missing: name a recipe, for example --config=configs/ldm.py")
    with flag.value.unlocked():
        _expand_paths(flag.value)
    return flag.value


def _expand_paths(config: ml_collections.ConfigDict) -> None:
    """Expands `~` in place. No text of a config begins with it but a path."""
    for name, entry in config.items():
        if isinstance(entry, ml_collections.ConfigDict):
            _expand_paths(entry)
        elif isinstance(entry, str):
            config[name] = paths.expand(entry)
        elif isinstance(entry, tuple):
            config[name] = tuple(paths.expand(e) if isinstance(e, str) else e for e in entry)


def to_json(config: ml_collections.ConfigDict | dict[str, Any]) -> str:
    """The config as JSON text with sorted keys (tuples become lists)."""
    plain = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    return strict_json.dumps(plain, indent=2, sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
    """Reads a config back; every list becomes a tuple, so that it hashes."""
    config = ml_collections.ConfigDict(as_tuples(strict_json.loads(text)))
    config.lock()
    return config


def digest(config: ml_collections.ConfigDict | dict[str, Any]) -> str:
    """SHA-256 of the config's JSON."""
    return hashlib.sha256(to_json(config).encode()).hexdigest()
