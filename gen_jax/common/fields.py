"""Fields of classes and functions that a config can set, with their defaults.

A recipe states what it cares about. What it leaves out is filled in from here before the command
line is read, so that every field can be set: `--config.task.unet.norm_num_groups=8`.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from gen_jax.common.build import class_of, dtype_name

_LINEN = ("parent", "name")
_PLAIN = (bool, float, int, str, tuple)


@dataclasses.dataclass(frozen=True)
class Part:
    """A nested config of a class: which class it becomes.

    Attributes:
      kind: The class or function, or a table of them by the key "name".
      derived: Fields that the class around it computes, which a config does not set.
    """

    kind: Callable[..., Any] | Mapping[str, Any]
    derived: tuple[str, ...] = ()


def with_defaults(kind: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a config with all other settable fields at their defaults.

    Args:
      kind: A dataclass or function; nested configs are those that its attribute `parts` names.
      values: Plain values.

    Returns:
      The values; a field whose default is None is a placeholder of its type.
    """
    filled = dict(values)
    for name, default in defaults_of(kind, placeholders=True).items():
        filled.setdefault(name, default)
    for name, part in parts_of(kind).items():
        if isinstance(filled.get(name), Mapping):
            filled[name] = _filled(part, filled[name])
        elif name not in filled and (default := _default_instance(kind, name)) is not None:
            filled[name] = with_defaults(type(default), _plain_values(default))
    return filled


def parts_of(kind: Callable[..., Any]) -> Mapping[str, Part]:
    """Returns the nested configs of a class."""
    return getattr(kind, "parts", {})


def defaults_of(kind: Callable[..., Any], placeholders: bool = False) -> dict[str, Any]:
    """Returns the fields of a class or function whose defaults are plain config values.

    Args:
      kind: A dataclass or function.
      placeholders: Whether fields with the default None are there, as placeholders of their type.
    """
    found = {}
    for name, default, annotation in _fields(kind):
        if name == "dtype":
            found[name] = dtype_name(default)
        elif default is None and placeholders and (of := _plain_type(annotation)) is not None:
            found[name] = config_dict.placeholder(of)
        elif isinstance(default, _PLAIN):
            is_float = type(default) is int and float in _options(annotation)
            found[name] = float(default) if is_float else default
    return found


def _fields(kind: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields name, default and annotation of each field that has a default."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            is_given = field.default is not dataclasses.MISSING
            if field.init and is_given and field.name not in _LINEN:
                yield field.name, field.default, field.type
        return
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            yield name, parameter.default, parameter.annotation


def _filled(part: Part, values: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.kind
    if isinstance(kind, Mapping):
        if values.get("name") not in kind:
            return dict(values)  # building it says what is wrong
        kind = class_of(kind, values["name"], "")
    filled = with_defaults(kind, values)
    return {k: v for k, v in filled.items() if k in values or k not in part.derived}


def _default_instance(kind: Callable[..., Any], name: str) -> Any:
    defaults = {field: default for field, default, _ in _fields(kind)}
    default = defaults.get(name)
    return default if dataclasses.is_dataclass(default) else None


def _plain_values(instance: Any) -> dict[str, Any]:
    values = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance) if f.init}
    return {k: v for k, v in values.items() if isinstance(v, _PLAIN)}


def _plain_type(annotation: Any) -> type | None:
    """Returns the plain type that an optional field takes; float where whole numbers fit, too."""
    options = _options(annotation)
    return next((of for of in (float, int, str, tuple) if of in options), None)


def _options(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(typing.get_origin(a) or a for a in typing.get_args(annotation))
    return (origin or annotation,)
