"""What a sweep may vary: fields of a config, each a list of values or a range."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from gen_jax.common import files, strict_json
from gen_jax.common.build import as_tuples
from gen_jax.common.errors import UserError

_RANGE = {"low", "high", "log", "step"}


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One field.

    Attributes:
      key: of the config, such as "task.quantizer.num_codes".
      values: to choose from; or
      low, high: ends of a range, both reached; whole numbers where both are.
      log: whether the range is even in the logarithm.
      step: between values of the range, None for any.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float | int = 0.0
    high: float | int = 0.0
    log: bool = False
    step: float | int | None = None


def read(path: str | pathlib.Path, config: ml_collections.ConfigDict) -> tuple[Dimension, ...]:
    """Reads a space: a JSON object {key: [value, ...] or {"low": a, "high": b, ...}}.

    Args:
      path: the file.
      config: that the keys are of.

    Raises:
      UserError: not such a file, or a key that the config has not.
    """
    path = pathlib.Path(path)
    try:
        found = strict_json.loads(files.read_text(path))
    except OSError as error:
        raise UserError(f"space={path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"space={path}: is not JSON ({error})") from None
    if not isinstance(found, dict) or not found:
        raise UserError(
            f'space={path}: expected an object such as {{"task.beta": [0.1, 0.25], '
            '"optimizer.model.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}}'
        )
    for key in found:
        _check_key(key, config, path)
    return tuple(_dimension(key, value, path) for key, value in found.items())


def _check_key(key: str, config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
    holder: Any = config
    for part in key.removeprefix("config.").split("."):
        if not isinstance(holder, ml_collections.ConfigDict) or part not in holder:
            have = ", ".join(holder) if isinstance(holder, ml_collections.ConfigDict) else "no keys"
            raise UserError(f"space={path}: {key}: the config has no {part!r}; there {have}")
        holder = holder[part]


def _dimension(key: str, value: Any, path: pathlib.Path) -> Dimension:
    where, name = f"space={path}: {key}", key.removeprefix("config.")
    if isinstance(value, list) and value:
        return Dimension(name, as_tuples(value))
    if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= _RANGE:
        raise UserError(f'{where}: expected a list of values, or {{"low": a, "high": b}} with '
                        '"log" or "step"')  # fmt: skip
    numbers = [value["low"], value["high"], value.get("step", 1)]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise UserError(f"{where}: low, high and step must be numbers")
    if not value["low"] < value["high"]:
        raise UserError(f"{where}: low={value['low']} is not below high={value['high']}")
    if value.get("log") and (value["low"] <= 0 or "step" in value):
        raise UserError(f"{where}: with log expected low above 0 and no step")
    return Dimension(name, **value)


def grid(space: tuple[Dimension, ...]) -> Iterator[Mapping[str, Any]]:
    """All combinations of lists of values.

    Raises:
      UserError: one is a range.
    """
    for dimension in space:
        if not dimension.values:
            raise UserError(
                f"space: {dimension.key} is a range, which a grid cannot go through; give a "
                "list, or name a study that searches it"
            )
    for values in itertools.product(*(d.values for d in space)):
        yield {d.key: v for d, v in zip(space, values, strict=True)}


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Overrides of `gen_jax.main`."""
    return [f"--config.{key}={value}" for key, value in values.items()]
