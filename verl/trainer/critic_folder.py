"""What a critic's own folder says about how it is to be asked: ``critic.yaml`` beside its weights.

    hold: {value: 3, why: "its single dones come a frame too early"}

The plain rule is the base configuration's: the first done ends an episode, values are relative. A critic that needs
something else says so in its folder, with the reason; every other critic gets the plain rule. Only keys that say how to
ask are taken: a downloaded folder must not choose programs, devices or rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evo_vlac.paths import from_home
from evo_vlac.text_files import read_text
from shm_bridge import ConfigError as RulesError
from shm_bridge.rules import DoneRules, RewardRules
from verl.errors import ConfigError

FILE = "critic.yaml"
ELSEWHERE = ("openai", "fixed")  # engines that answer without the folder that ``model`` names


def _taken_by(rules: type, name: str, *types: type) -> Callable[[Any], bool]:
    """Whether ``rules`` take a value of one of ``types`` for ``name``."""

    def accepts(value: Any) -> bool:
        try:
            return type(value) in types and bool(rules(**{name: value}))
        except RulesError:
            return False

    return accepts


def _are_thresholds(value: Any) -> bool:
    """Whether it is a list of pairs, an instruction and its threshold."""
    pairs = isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    takes = _taken_by(DoneRules, "threshold", int, float)
    return pairs and all(isinstance(told, str) and takes(line) for told, line in value)


ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {  # keys of ``critic``
    "threshold": (_taken_by(DoneRules, "threshold", int, float), "0 to 1"),
    "hold": (_taken_by(DoneRules, "hold", int), "a whole number from 1"),
    "value_stride": (_taken_by(RewardRules, "value_stride", int), "a whole number from 1"),
    "sidecar.config.values.mode": (lambda value: value in ("relative", "mirror", "mix_f"), "relative, mirror, mix_f"),
    "sidecar.config.values.rich": (lambda value: isinstance(value, bool), "true, false"),
    "thresholds": (_are_thresholds, "a list of [instruction, 0 to 1]"),
}


@dataclass(frozen=True, slots=True)
class CriticRule:
    """One key of the configuration that the critic's folder sets, with its reason and the file it is from."""

    key: str
    value: Any
    why: str
    file: Path

    def __str__(self) -> str:
        return f"{self.key}={self.value} (from {self.file}): {self.why}"


def critic_rules(tree: Mapping[str, Any]) -> list[CriticRule]:
    """What the folder of the critic that ``tree`` configures asks for; nothing where it has no such file.

    Args:
        tree: the resolved configuration.

    Raises:
        ConfigError: naming the file, the key, its value and what is allowed.
    """
    model, engine = (_at(tree, f"critic.sidecar.config.{key}") for key in ("model", "engine"))
    if not isinstance(model, str) or not model or engine in ELSEWHERE:
        return []
    file = from_home(model) / FILE
    return read_rules(file) if file.is_file() else []


def read_rules(file: Path) -> list[CriticRule]:
    """The rules in ``file``. Raises what :func:`critic_rules` does."""
    try:
        content = yaml.safe_load(read_text(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from None
    if content is None:
        return []
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: must hold a mapping of key: {{value, why}}")
    return [_rule(file, str(key), entry) for key, entry in content.items()]


def _rule(file: Path, key: str, entry: Any) -> CriticRule:
    if key not in ALLOWED:
        raise ConfigError(f"{file}: {key}: unknown key; allowed are {', '.join(ALLOWED)}")
    if not isinstance(entry, dict) or set(entry) != {"value", "why"}:
        raise ConfigError(f"{file}: {key}={entry!r}: must be a mapping of value and why")
    accepts, allowed = ALLOWED[key]
    value, why = entry["value"], entry["why"]
    if not accepts(value):
        raise ConfigError(f"{file}: {key}.value={value!r}: allowed are {allowed}")
    if not isinstance(why, str) or not why.strip():
        raise ConfigError(f"{file}: {key}.why={why!r}: must say the reason")
    return CriticRule(f"critic.{key}", value, " ".join(why.split()), file)


def in_force(tree: Mapping[str, Any]) -> list[CriticRule]:
    """Those rules of the critic's folder that ``tree`` goes by: what a preset, a file or the user sets is theirs."""
    return [rule for rule in critic_rules(tree) if _at(tree, rule.key) == rule.value]


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def as_tree(rules: list[CriticRule]) -> dict[str, Any]:
    """The rules as a part of the configuration."""
    tree: dict[str, Any] = {}
    for rule in rules:
        *path, last = rule.key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = rule.value
    return tree
