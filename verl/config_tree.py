"""From a configuration tree to frozen dataclasses, and the checks that they share; an error names key and value."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from verl.errors import ConfigError

T = TypeVar("T")


def one_of(key: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}: allowed are {', '.join(map(str, allowed))}")


def in_range(key: str, value: float, low: float, high: float = float("inf")) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key}={value!r}: must be from {low} to {high}")


def group(tree: object, where: str) -> Mapping[str, Any]:
    """``tree`` itself, where it is a group of keys. Raises ConfigError for anything else."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}={tree!r}: must be a group of keys")
    return tree


def build(kind: type[T], tree: object, where: str) -> T:
    """An instance of dataclass ``kind`` from a mapping, numbers and lists brought to the declared types.

    Raises:
        ConfigError: a key is unknown or missing, or a value has another type.
    """
    keys = group(tree, where)
    hints = typing.get_type_hints(kind)
    known = {f.name for f in fields(kind) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(keys) - known)
    if unknown:
        raise ConfigError(f"{where}.{unknown[0]}: unknown key; known are {', '.join(sorted(known))}")
    missing = sorted(known - set(keys))
    if missing:
        raise ConfigError(f"{where}.{missing[0]}: missing")
    return kind(**{name: _convert(hints[name], keys[name], f"{where}.{name}") for name in known})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    options = typing.get_args(hint) if typing.get_origin(hint) not in (tuple, dict, list) else ()
    if options:  # X | None
        return None if value is None else _convert(options[0], value, where)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    if typing.get_origin(hint) is dict:
        return dict(value or {})
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}={value!r}: must be a {hint.__name__}")
    return value
