"""Values in hydra's grammar: what stands in a YAML file, or after a key on the command line, arrives unchanged."""

from __future__ import annotations

import json
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def hydra_text(value: Any) -> str:
    """A value of a YAML file in hydra's grammar."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(map(hydra_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{hydra_text(item)}" for key, item in value.items()) + "}"
    return str(value) if isinstance(value, float) else json.dumps(value)


def as_hydra(override: str) -> str:
    """A ``key=value`` whose value hydra's grammar takes for one value, as it is; any other (a path with ``=``, a comma,
    brackets, ``~`` or an umlaut) as a quoted string. Broken lists and mappings are left for hydra to refuse."""
    key, equals, value = override.partition("=")
    if not equals or override.startswith("~") or _one_value(override):
        return override
    if value.startswith(("[", "{")) and not any(mark in value for mark in "/\\"):
        return override
    return f"{key}={_quoted(value)}"


def _one_value(override: str) -> bool:
    try:
        return not OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:
        return False


def _quoted(text: str) -> str:
    """In double quotes. Backslashes stand for themselves, but in front of a quote and at the end."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'
