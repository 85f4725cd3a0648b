"""How upstream reads answers, where that is not this project's rule (:mod:`evo_vlac.parsing`).

- a number is what ``float()`` takes; beyond 100 percent it counts as the bound (upstream goes on with it as it is);
- ``rich`` done leaves out digits at or below a tenth of the best one, averages the rest, and rounds, before it is
  compared with a threshold;
- ``rich`` in context reads the percentages, too, from the text with decimals.

What upstream dies of (an answer that it cannot read) is NaN here, and logged with its text.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass

from evo_vlac import parsing
from evo_vlac.engine import Answer

log = logging.getLogger(__name__)

_NAN = float("nan")
_FIRST = re.compile(r"first image progressing:([^%]*)%", re.IGNORECASE)
_SECOND = re.compile(r"second image progressing:([^%]*)%", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Progress:
    """A pair's answer. ``critic``: percent of the remaining work, -100 to 100. ``before`` and ``after``: percent of the
    way, 0 to 100, of a think answer. NaN where it cannot be read."""

    critic: float
    before: float = _NAN
    after: float = _NAN


def read_critic(answer: Answer, *, rich: bool = False, think: bool = False) -> Progress:
    """The number of an answer to the pair question, and the percentages of one that thinks before it."""
    text = parsing.rich_text(answer) if rich else answer.text
    if answer.error is not None:
        text = ""
    strict = parsing.parse_critic(Answer(text), think=think)
    critic = strict.value
    if not strict.valid and ("</think>" in text or not think):
        critic = _bounded(text.rsplit("</think>", 1)[-1], -100.0)
    read = Progress(critic, _share(_FIRST, text), _share(_SECOND, text)) if think else Progress(critic)
    if math.isnan(read.critic) or (think and math.isnan(read.after)):
        _warn("critic", answer)
    return read


def read_done(answer: Answer, rich: bool = False) -> float:
    """0 or 1; ``rich``: the number with one decimal. NaN where the answer is neither 0 nor 1."""
    if not parsing.parse_done(answer).valid:
        _warn("done", answer)
        return _NAN
    return parsing.parse_critic(answer, rich=True).value if rich else float(answer.text.strip()[0])


def _share(pattern: re.Pattern[str], text: str) -> float:
    found = pattern.search(text)
    return _bounded(found[1], 0.0) if found else _NAN


def _bounded(text: str, low: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return _NAN
    return number if math.isnan(number) else min(100.0, max(low, number))


def _warn(what: str, answer: Answer) -> None:
    log.warning("%s: an answer cannot be read and counts as nothing: %r %s", what, answer.text, answer.error or "")
