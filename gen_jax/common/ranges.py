"""Ranges of the numbers in a config: what lies outside is refused before any work."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from gen_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers.

    Attributes:
      low: Least value.
      high: Greatest value.
      open_low: Whether `low` itself lies outside.
      open_high: Whether `high` itself lies outside.
    """

    low: float | int = -math.inf
    high: float | int = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float | int) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def words(self, kind: type = float) -> str:
        """Returns what a number has to be, such as "a number from 0 to 1".

        Args:
          kind: `int` for whole numbers, `float` for any.
        """
        noun = "a whole number" if kind is int else "a number"
        low, high = (str(e) if isinstance(e, int) else f"{e:g}" for e in (self.low, self.high))
        if math.isinf(self.low) and math.isinf(self.high):
            return noun if kind is int else "a finite number"
        if math.isinf(self.high):
            return f"{noun} {'above' if self.open_low else 'of at least'} {low}"
        if math.isinf(self.low):
            return f"{noun} {'below' if self.open_high else 'of at most'} {high}"
        if self.open_low:
            return f"{noun} above {low} and {'below' if self.open_high else 'at most'} {high}"
        return f"{noun} from {low} to {'below ' if self.open_high else ''}{high}"


POSITIVE = Range(0, open_low=True)
NOT_NEGATIVE = Range(0)
AT_LEAST_1 = Range(1)
SHARE = Range(0, 1)
BELOW_1 = Range(0, 1, open_high=True)


def numbers_in(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | int]]:
    """Yields key after key with its number; the entries of a tuple share one key."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers_in(value, f"{prefix}{name}.")
        for entry in value if isinstance(value, tuple | list) else (value,):
            if isinstance(entry, int | float) and not isinstance(entry, bool):
                yield f"{prefix}{name}", entry


def check_fields(instance: Any, ranges: Mapping[str, Range], where: str) -> None:
    """Compares the numbers of a dataclass with their types and ranges.

    Args:
      instance: A dataclass; a field whose type is `int` must hold a whole number.
      ranges: Field -> range. A tuple lies in it if each entry does.
      where: The config key of the dataclass, for the message.

    Raises:
      UserError: A number of another type, not finite, or outside its range.
    """
    for field in dataclasses.fields(instance):
        value, name = getattr(instance, field.name), f"{where}.{field.name}"
        kind = int if field.type is int else float
        allowed = ranges.get(field.name)
        is_other = {int: not _is_whole(value), float: not _is_number(value)}.get(field.type, False)
        if is_other:
            raise UserError(f"{name}={value}: expected {(allowed or Range()).words(kind)}")
        if allowed:
            check_range(value, allowed, name, kind)


def check_range(value: Any, allowed: Range, name: str, kind: type = float) -> None:
    """Refuses a number, or a tuple with a number, that is not finite or not in the range.

    Args:
      value: The number or numbers.
      allowed: Their range.
      name: What the value is called in the error message.
      kind: `int` if the message is to ask for whole numbers.

    Raises:
      UserError: See above; the message names the key and the range.
    """
    for entry in value if isinstance(value, tuple | list) else (value,):
        if not _is_number(entry) or not math.isfinite(entry) or entry not in allowed:
            raise UserError(f"{name}={value}: expected {allowed.words(kind)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
