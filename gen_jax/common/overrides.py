"""Whether `--config.key.sub=value` fits the config, said in a line where it does not.

ml_collections checks as well, but its errors name neither the override nor what was expected.
"""

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_path, tuple_parser

from gen_jax.common import numbers
from gen_jax.common.errors import UserError


def _dict(text: str) -> dict:
    value = ast.literal_eval(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


# Type of the config's value -> how text is read as one, what to call it. Any text is a str.
_TYPES = {
    bool: (flags.BooleanParser().parse, "true or false"),
    int: (flags.IntegerParser().parse, "a whole number"),
    float: (lambda text: numbers.parse(text, "", float), "a finite number"),
    tuple: (tuple_parser.TupleParser().parse, "a tuple, such as '(1, 2)'"),
    ConfigDict: (_dict, "a dict, such as '{\"key\": 1}', or one of its keys after a dot"),
}


def check(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Compares the overrides of a command line with the config that they are for.

    Args:
      config: as its file gives it.
      arguments: the command line.

    Raises:
      UserError: an override names no key, or its value is of another type.
    """
    for argument, following in zip(arguments, [*arguments[1:], None]):
        if match := re.fullmatch(r"--?(no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL):
            negated, key, text = match.groups()
            holder, name = _find(config, key, argument)
            kind = holder.get_type(name) if isinstance(holder, ConfigDict) else type(holder[name])
            if text is None and kind is not bool:
                text, argument = following, f"{argument}={following}"
            if text is not None and not negated:
                _check_type(kind, holder[name], text, argument)


def _find(config: ConfigDict, key: str, argument: str) -> tuple[Any, Any]:
    """What holds the value at `key`, and the last part of the key."""
    try:
        parts = config_path.split(key)
    except ValueError:
        parts = tuple(key.split("."))
    holder, path = config, ""
    for place, part in enumerate(parts):
        if isinstance(holder, ConfigDict):
            if part not in holder:
                known = _suggestion(config, holder, path, str(part))
                raise UserError(f"{argument}: the config has no key {path}{part}; {known}")
        elif not (isinstance(holder, list) and part in range(len(holder))):
            whole = path.removesuffix(".")
            raise UserError(
                f"{argument}: config.{whole} is {holder!r} and has no keys; set "
                f"config.{whole} as a whole"
            )
        if place < len(parts) - 1:
            holder, path = holder[part], f"{path}{part}."
    return holder, part


def _suggestion(config: ConfigDict, holder: ConfigDict, path: str, name: str) -> str:
    """What may have been meant by `path` + `name`, a key that `holder` at `path` has not."""
    near = difflib.get_close_matches(name, list(holder), 1)
    elsewhere = [p for p in _paths(config) if p.split(".")[-1] == name]
    if near or elsewhere:
        return f"did you mean {' or '.join((near or elsewhere)[:3])}?"
    return f"{path.removesuffix('.') or 'it'} has {', '.join(holder) or 'none'}"


def _paths(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, ConfigDict):
            yield from _paths(value, f"{prefix}{name}.")


def _check_type(kind: type, value: Any, text: str, argument: str) -> None:
    if kind is type(None):
        raise UserError(
            f"{argument}: the config has None there, which does not say how to read {text!r}; "
            "set it in the config file"
        )
    if kind not in _TYPES:
        return
    read, words = _TYPES[kind]
    try:
        read(text)
    except (SyntaxError, TypeError, ValueError, UserError) as error:
        now = "" if kind is ConfigDict else f"; the config has {value!r}"
        raise UserError(f"{argument}: expected {words}{now}") from error
