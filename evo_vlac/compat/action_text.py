"""End-effector states and actions as the checkpoints read them, by upstream's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evo_vlac import prompts
from evo_vlac.compat.data_processing import normalize_angle
from evo_vlac.queries import short_state

_NUMBERS = 7  # x y z roll pitch yaw open; upstream leaves out what comes after them
_WORDS = "End-Effector with units in mm and degrees"
_SHORT_WORDS = "End-Effector hide units in mm and degrees within () format"


def format_songling_v2(action: Any, state: bool = False, data_type: str | None = None) -> str:
    """``{x: 1mm, ... open: 1}`` of 7 numbers, or of each of two arms; "None" of None, a sentence of anything else (with
    ``data_type`` in front). Angles over a half turn are wrapped, unless it is a ``state``."""
    return _text(action, state, False, _worded(_WORDS, data_type))


def format_songling_simple(action: Any, state: bool = False, data_type: str | None = None) -> str:
    """The short form: ``(1 2 3 4 5 6 1)``."""
    return _text(action, state, True, _worded(_SHORT_WORDS, data_type))


def _text(action: Any, state: bool, simple: bool, words: str) -> str:
    if action is None:
        return "None"
    if not isinstance(action, (list, tuple)):
        return words
    arms = [list(arm) for arm in action] if isinstance(action[0], (list, tuple)) else [list(action)]
    texts = [_arm(arm[:_NUMBERS], state, simple) for arm in arms]
    if len(texts) == 1:
        return texts[0]
    if len(texts) != 2:
        return "None"
    if simple:
        texts[1] = texts[1].replace(" ", ", ")
    tag = "position" if state else "action"
    tag = f"({tag})" if simple else tag
    return f"\nleft: <{tag}> {texts[0]} </{tag}> \nright: <{tag}> {texts[1]} </{tag}>"


def _arm(arm: Sequence[float], state: bool, simple: bool) -> str:
    numbers = arm if state else [*arm[:3], *map(normalize_angle, arm[3:6]), *arm[6:]]
    return short_state(numbers) if simple else prompts.state(numbers)


def _worded(words: str, data_type: str | None) -> str:
    return f"{data_type} {words}" if data_type else words
