"""Numbers from users: flags that are finite and within bounds, and seeds."""

import math
import operator
from typing import Any

from absl import flags

from gen_jax.common.errors import UserError
from gen_jax.common.ranges import Range

flags.disclaim_key_flags()  # a flag belongs to the command that defines it, which --help lists

MAX_SEED = 2**32 - 1
"""Largest seed: JAX keeps the low 32 bits, so that 2**32 would repeat the noise of 0."""


def _range(low: float | int | None, high: float | int | None) -> Range:
    return Range(-math.inf if low is None else low, math.inf if high is None else high)


def parse(
    value: Any,
    name: str,
    kind: type,
    low: float | int | None = None,
    high: float | int | None = None,
) -> Any:
    """Returns `value` as a finite number within its bounds.

    Args:
      value: A number, or text that stands for one.
      name: What the value is called in the error message, such as "--guidance".
      kind: `int` or `float`.
      low: Least value that is allowed; None for no bound.
      high: Largest value that is allowed; None for no bound.

    Raises:
      UserError: The value is no number of this kind, not finite or outside its bounds.
    """
    allowed = _range(low, high)
    try:
        # A number such as 1.5 is no int, although int() would cut it.
        number = operator.index(value) if kind is int and not isinstance(value, str) else None
        number = kind(value) if number is None else number
        is_valid = not isinstance(value, bool) and math.isfinite(number) and number in allowed
    except (TypeError, ValueError, OverflowError):
        is_valid = False
    if not is_valid:
        raise UserError(f"{name}={value}: expected {allowed.words(kind)}")
    return number


def check_seed(value: Any, name: str, count: int = 1) -> int:
    """Returns `value` as a seed from which `count` seeds can be counted up.

    Args:
      value: The first seed.
      name: What it is called in the error message, such as "--seed".
      count: Number of seeds that follow one another, 1 by default.

    Raises:
      UserError: The seed is not a whole number from 0 to 2**32 - 1, or the last one is above it.
    """
    seed = parse(value, name, int, 0, MAX_SEED)
    if seed + count - 1 > MAX_SEED:
        raise UserError(
            f"{name}={seed}: {count} seeds from there pass the largest one, {MAX_SEED}; "
            f"expected at most {MAX_SEED - count + 1}"
        )
    return seed


class _Parser(flags.ArgumentParser):
    """Parses a flag's text by `parse`."""

    def __init__(self, kind: type, low: float | int | None, high: float | int | None):
        self._kind, self._bounds = kind, (low, high)
        self.syntactic_help = _range(low, high).words(kind)

    def parse(self, argument: Any) -> Any:
        try:
            return parse(argument, "", self._kind, *self._bounds)
        except UserError as error:
            raise ValueError(f"expected {self.syntactic_help}") from error

    def flag_type(self) -> str:
        return self._kind.__name__


def _define(kind, name, default, text, low, high) -> flags.FlagHolder:
    ends = ["" if end is None else f"{end:.16g}" for end in (low, high)]
    scope = f" [{ends[0]} to {ends[1]}]" if all(ends) else f" [from {ends[0]}]" if ends[0] else ""
    return flags.DEFINE(
        _Parser(kind, low, high), name, default, text + scope, serializer=flags.ArgumentSerializer()
    )


def define_float(
    name: str,
    default: float | int | None,
    text: str,
    low: float | int | None = None,
    high: float | int | None = None,
) -> flags.FlagHolder[float]:
    """Defines a flag that holds a finite number from `low` to `high`, which its help names."""
    return _define(float, name, default, text, low, high)


def define_int(
    name: str, default: int | None, text: str, low: int | None = None, high: int | None = None
) -> flags.FlagHolder[int]:
    """Defines a flag that holds a whole number from `low` to `high`, which its help names."""
    return _define(int, name, default, text, low, high)


def define_seed(name: str, default: int | None, text: str) -> flags.FlagHolder[int]:
    """Defines a flag that holds a seed, see `check_seed`."""
    return define_int(name, default, text, 0, MAX_SEED)
