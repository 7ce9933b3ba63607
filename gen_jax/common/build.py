"""Dataclasses (linen modules among them) from plain config values, checked."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from gen_jax.common.errors import UserError

T = TypeVar("T")

# Fields that linen adds to every module.
_LINEN = {"parent", "name"}


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Returns `cls(**values)`, with `dtype` given by name and lists as tuples, which can be hashed.

    Args:
      cls: a dataclass.
      values: plain values, for example a part of a config.
      where: the config key they stand under, for the error message.

    Raises:
      UserError: a key that is no field of `cls`, or a field without a value.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init and f.name not in _LINEN}
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(
            f"{where}: unknown key {unknown[0]!r}; {cls.__name__} takes {', '.join(fields)}"
        )
    needed = [
        n
        for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := sorted(set(needed) - set(values)):
        raise UserError(f"{where}: {missing[0]!r} has no value; {cls.__name__} needs it")
    values = {k: _nested(cls, k, v, where) for k, v in values.items()}
    return cls(**{k: _dtype(v) if k == "dtype" else as_tuples(v) for k, v in values.items()})


def _nested(cls: type, name: str, value: Any, where: str) -> Any:
    """Builds a nested config of a class that names it in `parts` (see `fields.Part`)."""
    part = getattr(cls, "parts", {}).get(name)
    if part is None or not isinstance(value, Mapping):
        return value
    build_part = by_name if isinstance(part.kind, Mapping) else build
    return build_part(part.kind, value, f"{where}.{name}")


def as_tuples(value: Any) -> Any:
    """Returns the value with every list in it as a tuple: JSON has lists alone."""
    if type(value) is dict:
        return {k: as_tuples(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return tuple(as_tuples(v) for v in value)
    return value


def by_name(table: Mapping[str, type | str], config: Mapping[str, Any], where: str) -> Any:
    """Builds the class that `config["name"]` names in `table` from the other keys.

    Args:
      table: Name -> class, or its "module:class", which is imported when it is named.
      config: Plain values.
      where: The config key they stand under, for the error message.

    Raises:
      UserError: There is no such name, or a key does not fit.
    """
    values = dict(config)
    cls = class_of(table, values.pop("name", None), where)
    return build(cls, values, where)


def class_of(table: Mapping[str, type | str], name: Any, where: str) -> Any:
    """Returns the class of a name in a table, see `by_name`; raises UserError if there is none."""
    if name not in table:
        raise UserError(f"{where}.name={name!r}: expected one of {', '.join(sorted(table))}")
    entry = table[name]
    if isinstance(entry, str):
        module, attribute = entry.split(":")
        return getattr(importlib.import_module(module), attribute)
    return entry


def _dtype(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    import jax.numpy as jnp

    known = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
    if value not in known:
        raise UserError(f"dtype={value!r}: expected one of {', '.join(known)}")
    return known[value]


def dtype_name(dtype: Any) -> str:
    """Returns the name of a dtype, as `build` takes it."""
    import jax.numpy as jnp

    return jnp.dtype(dtype).name
