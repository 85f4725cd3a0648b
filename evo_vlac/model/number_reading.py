"""Reads a signed number token by token, and knows early when it will not be one.

What counts as a number is decided by :mod:`evo_vlac.parsing`; here only: could this text still become one? A model that
begins with anything else gets one token of time, not all of them, and its answer stays as unreadable as it is. With
``force`` the model may choose among the tokens that keep it a number, and among nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum

_BEGUN = re.compile(r"\s*[+\-\u2212]?(\d+(\.\d*)?)?")
_NUMBER = re.compile(r"\s*[+\-\u2212]?\d+(\.\d+)?")
_BEHIND = re.compile(r"\s*%?\s*(<(/(\w+>?)?)?)?\s*")
_MOST_DIGITS = 3  # of a forced number, in front of the dot: 100


class Reading(Enum):
    """What a text is on its way to."""

    OPEN = "may become a number"
    NUMBER = "is a number, may go on"
    NOT = "will not become a number"


def read(text: str) -> Reading:
    """Where ``text``, the answer so far, stands."""
    if _NUMBER.fullmatch(text):
        return Reading.NUMBER
    if _BEGUN.fullmatch(text):
        return Reading.OPEN
    number = _NUMBER.match(text)
    behind = number is not None and _BEHIND.fullmatch(text[number.end() :])
    return Reading.NUMBER if behind else Reading.NOT


class NumberTokens:
    """Which tokens of a vocabulary may stand in a number: sign, digits, dot. ``texts``: token id to text."""

    def __init__(self, texts: Mapping[int, str], ends: Sequence[int]) -> None:
        self.ends = tuple(ends)
        self.signs = tuple(i for i, t in texts.items() if t.strip() in ("+", "-") and len(t) <= 2)
        self.digits = tuple(i for i, t in texts.items() if t.isascii() and t.isdigit() and len(t) <= _MOST_DIGITS)
        self.dots = tuple(i for i, t in texts.items() if t == ".")

    def allowed(self, text: str) -> tuple[int, ...]:
        """The ids that may follow ``text`` so that it becomes a number, goes on as one, or ends."""
        bare = text.strip()
        if not bare:
            return self.signs + self.digits
        if read(text) is not Reading.NUMBER:
            return self.digits
        if "." in bare:
            return self.ends
        more = self.digits if len(bare.lstrip("+-")) < _MOST_DIGITS else ()
        return more + self.dots + self.ends
