"""JSON as RFC 8259 has it, which any program reads: without the tokens Infinity and NaN.

Numbers that are not finite are written as the strings "Infinity", "-Infinity" and "NaN", as in
protobuf's JSON mapping. Python's `float` reads these strings.
"""

import json
import math
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """Returns strict JSON.

    Args:
      value: Dicts, lists, tuples, strings, numbers, booleans and None.
      **options: Passed on to `json.dumps`.
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def loads(text: str) -> Any:
    """Reads strict JSON; a byte order mark before it is skipped.

    Raises:
      json.JSONDecodeError: The text is not JSON, or holds a number that is not finite.
    """
    return json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse, parse_float=_float)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {_finite_key(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value if not isinstance(value, float) or math.isfinite(value) else _name(value)


def _finite_key(key: Any) -> Any:
    return _name(key) if isinstance(key, float) and not math.isfinite(key) else key


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> Any:
    raise json.JSONDecodeError(f"{text} is not a finite number", text, 0)
