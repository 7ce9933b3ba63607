"""Reading Hugging Face's config.json: fields by name, and clear words for what is not here."""

from collections.abc import Mapping
from typing import Any

from gen_jax.common.errors import UserError


def check_model_type(config: Mapping[str, Any], *expected: str) -> str:
    """The config's `model_type`, which must be one of `expected`."""
    found = config.get("model_type")
    if found not in expected:
        raise UserError(
            f"config.json: model_type={found!r}: expected {' or '.join(map(repr, expected))}"
        )
    return found


def check_values(config: Mapping[str, Any], **only: Any) -> None:
    """Raises where a key is there with another value than the one that is supported."""
    for key, value in only.items():
        if config.get(key, value) != value:
            raise UserError(f"config.json: {key}={config[key]!r} is not supported: only {value!r}")


def take(config: Mapping[str, Any], *same: str, **renamed: str) -> dict[str, Any]:
    """Fields of a module that the config gives; what it lacks is left to the defaults.

    Args:
      config: the parsed config.json.
      *same: fields of that name in the config.
      **renamed: field = name in the config.
    """
    keys = {**{name: name for name in same}, **renamed}
    return {field: config[key] for field, key in keys.items() if key in config}


def square(value: int | list[int] | tuple[int, ...], key: str) -> int:
    """The side of a square given as one number or as two equal ones."""
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise UserError(f"config.json: {key}={value!r}: only squares are supported")
    return sides.pop()
