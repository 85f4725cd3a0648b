"""Reads a configuration: a YAML file, overridden by ``key=value`` arguments, into :class:`sidecar.config.Config`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evo_vlac.shipped_models import model_folder
from evo_vlac.text_files import read_text, texts_as_written
from sidecar.config import Config
from sidecar.errors import ConfigError


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in ``path`` (YAML) with ``overrides`` applied. Raises ConfigError."""
    tree = _read(Path(path)) if path is not None else {}
    for override in overrides:
        _apply(tree, override)
    if isinstance(model := tree.get("model"), str):
        tree["model"] = model_folder(model)
    return from_mapping(tree)


def from_mapping(tree: Mapping[str, Any]) -> Config:
    """The configuration in a nested mapping. Raises ConfigError."""
    config: Config = _build(Config, tree, "")
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
        tree = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not YAML ({' '.join(str(error).split())})") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"--config {path}: must hold keys and values, holds a {type(tree).__name__}")
    texts_as_written(tree, yaml.load(text, yaml.BaseLoader), _text_keys(Config))
    return tree


def _text_keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Of everything in the configuration that is a text, as ``group.name``."""
    for key, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _text_keys(typing.cast(type, hint), f"{prefix}{key}.")
        elif _is_text(hint):
            yield prefix + key


def _is_text(hint: Any) -> bool:
    return {str} == set(typing.get_args(hint) or (hint,)) - {type(None)}


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is written key=value, as batch.max_size=32")
    *groups, name = key.split(".")
    kind: Any = Config
    for group in groups:
        kind = typing.get_type_hints(kind).get(group) if dataclasses.is_dataclass(kind) else None
        child = tree.setdefault(group, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {group} is a value, not a group of keys")
        tree = child
    hint = typing.get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    if _is_text(hint) and text not in ("", "null", "~") and not re.fullmatch(r"""(["']).*\1""", text, re.DOTALL):
        tree[name] = text  # a path may hold anything that means something in YAML
        return
    try:
        tree[name] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{override!r}: the value is not YAML") from None


def _build(kind: type, tree: Any, prefix: str) -> Any:
    """An instance of ``kind``. Raises ConfigError with everything that is wrong in it, its groups included."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')}={tree!r}: must be a group of keys")
    hints = typing.get_type_hints(kind)
    problems = _wrong_keys(kind, tree, hints, prefix)
    values: dict[str, Any] = {}
    sound = True  # all plain values are of their types, so that what they mean together can be checked
    for key in tree.keys() & hints.keys():
        try:
            values[key] = _convert(hints[key], tree[key], f"{prefix}{key}")
        except ConfigError as error:
            problems += error.problems
            sound &= dataclasses.is_dataclass(hints[key])
    if sound and _needed(kind) <= values.keys():
        try:
            built = kind(**values)
        except ConfigError as error:
            told = {_key_of(problem) for problem in problems}  # such a group is at its defaults here
            problems += [problem for problem in error.problems if _key_of(problem) not in told]
    if problems:
        raise ConfigError(*problems)
    return built


def _wrong_keys(kind: type, tree: Mapping[str, Any], hints: Mapping[str, Any], prefix: str) -> list[str]:
    """A line for each unknown key, and for each one that is missing."""
    problems = []
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), 1)
            hint = f"did you mean {prefix}{near[0]}? " if near else ""
            problems.append(f"{prefix}{key}: unknown key; {hint}known: {', '.join(sorted(hints))}")
    missing = sorted(_needed(kind) - tree.keys())
    return problems + [f"{prefix}{name}: missing; it has no default" for name in missing]


def _needed(kind: type) -> set[str]:
    """Names of the fields without a default."""
    nothing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return {one.name for one in fields if one.default is nothing and one.default_factory is nothing}


def _key_of(problem: str) -> str:
    return problem.partition(":")[0].partition("=")[0]


def _convert(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), {} if value is None else value, f"{key}.")
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    kinds = [kind for kind in allowed if kind is not type(None)]
    for kind in kinds:
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise ConfigError(f"{key}={value!r}: must be a finite number")
            return float(value)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    names = " or ".join(kind.__name__ for kind in kinds) + (" or null" if type(None) in allowed else "")
    raise ConfigError(f"{key}={value!r}: must be {names}")
