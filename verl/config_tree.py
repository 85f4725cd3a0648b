"""From a configuration tree to frozen dataclasses, and the checks that they share; an error names key and value."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from verl.errors import ConfigError

T = TypeVar("T")


def one_of(key: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}: allowed are {', '.join(map(str, allowed))}")


def in_range(key: str, value: float | None, low: float, high: float = math.inf) -> None:
    """None, where the key may be null, is always in it; infinity and NaN never are."""
    if value is not None and not (low <= value <= high and math.isfinite(value)):
        allowed = f"{low} or more" if high == math.inf else f"from {low} to {high}"
        raise ConfigError(f"{key}={value!r}: must be {allowed}")


def over_zero(key: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{key}={value!r}: must be over 0")


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
    return kind(**{name: convert(hints[name], keys[name], f"{where}.{name}") for name in known})


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``. Raises ConfigError: it is of another; ``where`` is its key."""
    if is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
            return _items(kind, value, where)
        if typing.get_origin(kind) is dict and isinstance(value, Mapping):
            return dict(value)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    raise ConfigError(f"{where}={value!r}: must be {' or '.join(map(_named, kinds))}")


def _items(hint: Any, values: Sequence[Any], where: str) -> tuple[Any, ...]:
    """A list's items: of one type, as many as there are (``tuple[str, ...]``), or as many as ``hint`` has types."""
    hints = typing.get_args(hint)
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    if len(hints) != len(values):
        raise ConfigError(f"{where}={list(values)!r}: must be a list of {len(hints)}")
    return tuple(convert(kind, value, f"{where}[{i}]") for i, (kind, value) in enumerate(zip(hints, values)))


def _named(kind: Any) -> str:
    """A type as a user of YAML knows it."""
    if kind is type(None):
        return "null"
    name = {tuple: "list", dict: "group of keys"}.get(typing.get_origin(kind)) or kind.__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
