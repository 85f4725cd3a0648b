"""A line of the preflight: what was looked at, whether it is well, and what was found or what to change."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, LOOK, BAD = "good", "look", "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """``state``: good; look: the run works, but somebody should know; bad: it will not work. ``said``: one sentence."""

    name: str
    state: str
    said: str


def good(name: str, said: str) -> Line:
    return Line(name, GOOD, said)


def look(name: str, said: str) -> Line:
    return Line(name, LOOK, said)


def bad(name: str, said: str) -> Line:
    return Line(name, BAD, said)
