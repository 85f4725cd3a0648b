"""From the model's words to numbers, without guessing.

An answer that cannot be read is never a number: its result has ``valid`` False, ``value`` NaN and the text
itself. The caller decides what an invalid answer means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evo_vlac.engine import Answer, TokenInfo
from evo_vlac.errors import OptionError

DONE_THRESHOLD = 0.9

_NAN = float("nan")
_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*%?\s*(?:</\w+>)?\s*", re.ASCII)
_DONE = re.compile(r"\s*([01])(?:\.0+)?\s*(?:</\w+>)?\s*", re.ASCII)
_FIRST = re.compile(r"first image progressing:\s*([+-]?\d+(?:\.\d+)?)\s*%", re.IGNORECASE | re.ASCII)
_SECOND = re.compile(r"second image progressing:\s*([+-]?\d+(?:\.\d+)?)\s*%", re.IGNORECASE | re.ASCII)
_ACTION = re.compile(
    r"x:\s*(?P<x>{n})\s*mm,\s*y:\s*(?P<y>{n})\s*mm,\s*z:\s*(?P<z>{n})\s*mm,\s*roll:\s*(?P<roll>{n})\s*degrees,"
    r"\s*pitch:\s*(?P<pitch>{n})\s*degrees,\s*yaw:\s*(?P<yaw>{n})\s*degrees,\s*open:\s*(?P<open>{n})".replace(
        "{n}", r"[+-]?\d+(?:\.\d+)?"
    ),
    re.ASCII,
)
_SHORT_ACTION = re.compile(r"\(\s*([+-]?[\d.]+(?:[\s,]+[+-]?[\d.]+){6})\s*\)")
_RICH_SHARE = 0.1  # alternatives below this share of the best are noise


@dataclass(frozen=True, slots=True)
class DoneResult:
    """A verdict on one image. ``probability`` is P(1) / (P(0) + P(1)), 0 to 1; NaN where the answer is not
    valid."""

    done: bool
    value: float
    probability: float
    valid: bool
    text: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CriticResult:
    """The progress between two images: ``value`` in percent of the remaining work, -100 to 100, NaN if not
    valid.

    ``probability`` is the model's probability of exactly this answer (NaN without log-probabilities).
    ``before`` and ``after`` are the percentages of a think answer.
    """

    value: float
    valid: bool
    text: str
    probability: float = _NAN
    before: float | None = None
    after: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ActionResult:
    """An action of the end effector: x y z in mm, roll pitch yaw in degrees, open 0..1. Empty if not
    valid."""

    action: dict[str, float]
    valid: bool
    text: str
    error: str | None = None


def parse_done(answer: Answer, threshold: float = DONE_THRESHOLD) -> DoneResult:
    """Reads a done answer; it is done if the probability is strictly over ``threshold`` (0 <= threshold < 1).

    Its probability is that of :func:`read_done`.
    """
    if not 0 <= threshold < 1:
        raise OptionError(f"the done threshold is {threshold}; allowed: 0 <= threshold < 1")
    probability = read_done(answer)
    if math.isnan(probability):
        return DoneResult(False, _NAN, _NAN, False, answer.text, answer.error)
    return DoneResult(probability > threshold, probability, probability, True, answer.text)


def read_done(answer: Answer) -> float:
    """P(done) of a done answer, 0 to 1; NaN where it cannot be read.

    Without log-probabilities it is the answer itself, 0 or 1.
    """
    match = _DONE.fullmatch(answer.text)
    if answer.error is not None or match is None:
        return _NAN
    probability = done_probability(answer.tokens)
    return float(match.group(1)) if math.isnan(probability) else probability


def done_probability(tokens: Sequence[TokenInfo]) -> float:
    """P(1) / (P(0) + P(1)) of the first token that is not blank; NaN where neither is among its
    alternatives."""
    for token in tokens:
        if not token.text.strip():
            continue
        mass = {"0": 0.0, "1": 0.0}
        for text, logprob in token.top or ((token.text, token.logprob),):
            if text.strip() in mass:
                mass[text.strip()] += math.exp(logprob)
        total = mass["0"] + mass["1"]
        return mass["1"] / total if total > 0 else _NAN
    return _NAN


def parse_critic(answer: Answer, *, rich: bool = False, think: bool = False) -> CriticResult:
    """Reads a critic answer: a signed number, percent. Numbers beyond 100 in size are not percentages:
    invalid.

    ``rich``: the probability-weighted number, one decimal (see :func:`rich_text`). ``think``: the number
    comes after ``</think>``; the percentages of both images are read too.
    """
    text = answer.text
    if answer.error is not None:
        return CriticResult(_NAN, False, text, error=answer.error)
    before = after = None
    if think:
        first, second = _FIRST.search(text), _SECOND.search(text)
        before = float(first.group(1)) if first else None
        after = float(second.group(1)) if second else None
        if "</think>" not in text:
            return CriticResult(_NAN, False, text, before=before, after=after)
    number = _number(_after_think(rich_text(answer) if rich else text))
    if number is None or abs(number) > 100:
        return CriticResult(_NAN, False, text, before=before, after=after)
    logprob = sum(token.logprob for token in answer.tokens) if answer.tokens else _NAN
    return CriticResult(number, True, text, math.exp(logprob), before, after)


def parse_in_context_done(answer: Answer, threshold: float = DONE_THRESHOLD) -> DoneResult:
    """Reads done from a think answer with references: the second image's percentage over 100."""
    result = parse_critic(answer, think=True)
    if result.after is None or not 0 <= result.after <= 100 or answer.error is not None:
        return DoneResult(False, _NAN, _NAN, False, answer.text, answer.error)
    value = result.after / 100
    return DoneResult(value > threshold, value, value, True, answer.text)


def parse_task(answer: Answer) -> str:
    """The described task: the text up to ``</task>``."""
    return answer.text.split("</task>")[0].strip()


def parse_action(answer: Answer) -> ActionResult:
    """Reads ``{x: ..mm, ... open: n}`` or the short form ``(x y z roll pitch yaw open)``."""
    match = _ACTION.search(answer.text)
    if match:
        return ActionResult({k: float(v) for k, v in match.groupdict().items()}, True, answer.text)
    short = _SHORT_ACTION.search(answer.text)
    if short:
        try:
            numbers = [float(n) for n in re.split(r"[\s,]+", short.group(1))]
        except ValueError:
            return ActionResult({}, False, answer.text)
        names = ("x", "y", "z", "roll", "pitch", "yaw", "open")
        return ActionResult(dict(zip(names, numbers)), True, answer.text)
    return ActionResult({}, False, answer.text, answer.error)


def rich_text(answer: Answer) -> str:
    """The answer with every number replaced by its probability-weighted mean, to one decimal.

    A digit token stands for the mean of the digit tokens among its top 10 alternatives whose probability is
    over a tenth of the best one's. Digit tokens of one number are joined by their decimal places, so a number
    stays ONE number; there only alternatives with as many digits count, since others would belong to another
    place.
    """
    if not answer.tokens:
        return answer.text
    parts: list[str] = []
    for run in _runs(answer.tokens):
        parts.append(_rich_number(run) if run[0].text.strip().isdigit() else run[0].text)
    return "".join(parts)


def _runs(tokens: Sequence[TokenInfo]) -> Iterator[list[TokenInfo]]:
    """Groups the tokens of one number (digits, a dot between digits); every other token stands alone."""
    i = 0
    while i < len(tokens):
        run = [tokens[i]]
        i += 1
        if _is_digits(run[0]):
            while i < len(tokens) and (
                _continues(tokens[i]) or (tokens[i].text == "." and i + 1 < len(tokens) and _continues(tokens[i + 1]))
            ):
                run.append(tokens[i])
                i += 1
        yield run


def _rich_number(run: Sequence[TokenInfo]) -> str:
    alone = len(run) == 1
    value, scale = 0.0, 0  # scale: decimal places after the dot so far, 0 before it
    for token in run:
        digits = token.text.strip()
        if digits == ".":
            scale = 1
        elif scale:
            scale *= 10 ** len(digits)
            value += _mean(token, alone) / scale
        else:
            value = value * 10 ** len(digits) + _mean(token, alone)
    return f"{value:.1f}"


def _mean(token: TokenInfo, any_length: bool) -> float:
    digits = token.text.strip()
    top = token.top[:10] or ((token.text, token.logprob),)
    best = math.exp(top[0][1])
    total = weight = 0.0
    for text, logprob in top:
        text, probability = text.strip(), math.exp(logprob)
        if _ascii_digits(text) and (any_length or len(text) == len(digits)) and probability > _RICH_SHARE * best:
            total += float(text) * probability
            weight += probability
    return total / weight if weight > 0 else float(digits)


def _is_digits(token: TokenInfo) -> bool:
    return _ascii_digits(token.text.strip())


def _continues(token: TokenInfo) -> bool:
    return _ascii_digits(token.text)


def _ascii_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text.replace("\u2212", "-"))
    return float(match.group(1)) if match else None


def _after_think(text: str) -> str:
    return text.rsplit("</think>", 1)[-1]
