"""Values in hydra's grammar: what stands in a YAML file, or after a key on the command line, arrives unchanged."""

from __future__ import annotations

import json
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

TEXTS = frozenset(
    (
        "actor_rollout_ref.model.path",
        "actor_rollout_ref.rollout.unnorm_key",
        "critic.run_id",
        "critic.sidecar.config.adapter",
        "critic.sidecar.config.model",
        "critic.sidecar.python",
        "data.task_suite_name",
        "trainer.default_local_dir",
        "trainer.experiment_name",
        "trainer.project_name",
        "trainer.resume_from_path",
        "trainer.run_id",
    )
)
"""Keys of names and paths: what looks like a number or a list in them (``trainer.run_id=20261126``) is text."""

_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
_OUTSIDE = re.compile(r"[^a-zA-Z0-9_/\-\\+.$%*@?|()\[\]{}:=, \t]")


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
    brackets, ``~`` or an umlaut) as a quoted string. Hydra's escapes (``epoch\\=3``) hold, also beside letters that its
    grammar lacks. Broken lists and mappings are left for hydra to refuse."""
    key, equals, value = override.partition("=")
    if not equals or override.startswith("~"):
        return override
    is_text = key.lstrip("+") in TEXTS
    if _one_value(override):
        return f"{key}={_quoted(value)}" if is_text and _is_other(override) else override
    if _ESCAPED.search(value) and _one_value(f"{key}={_OUTSIDE.sub('a', value)}"):
        value = _ESCAPED.sub(lambda found: found[1], value)
        return f"{key}={_quoted(value)}"
    if value.startswith(("[", "{")) and not is_text and not any(mark in value for mark in "/\\"):
        return override
    return f"{key}={_quoted(value)}"


def _one_value(override: str) -> bool:
    try:
        return not OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:
        return False


def _is_other(override: str) -> bool:
    """Whether hydra reads something other than a text or null."""
    value = OverridesParser.create().parse_override(override).value()
    return value is not None and not isinstance(value, str | QuotedString)


def _quoted(text: str) -> str:
    """In double quotes. Backslashes stand for themselves, but in front of a quote and at the end."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'
