"""The verdict: facts about a run that met a fault against its promise. Pure: reads nothing, waits for nothing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.faults.promises import EndsWithin, Exact, Promise, Refused

SAME = ("seed", "task", "group", "steps", "complete", "score", "invalid")  # of an episode, whatever befell the run
SCORE = 1.0  # of every episode of the undisturbed run: its critic says done
BEGINNINGS = ("error:", "interrupted")  # of a line that names why a run ended
SHOWN = 3


@dataclass(slots=True)
class Facts:
    """What there was to see of one run.

    Attributes:
        code: exit code of the launcher; None: it was still running when its time was over.
        seconds: from the fault to the end of everything, or until the time was over.
        screen: what it wrote to the terminal.
        rows: of ``episodes.jsonl``, training only; a line that is no JSON is ``{"broken": line}``.
        expected: rows of the undisturbed run by episode.
        total: training episodes that the run was to make.
        processes, shm, sessions: what was left: command lines, names in /dev/shm, Ray's session folders.
        notes: what the fault itself found wrong.
    """

    code: int | None
    seconds: float
    screen: str
    rows: list[dict[str, Any]]
    expected: dict[int, dict[str, Any]]
    total: int
    processes: list[str] = field(default_factory=list)
    shm: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cause(screen: str) -> str:
    """What the screen says of why the run ended: from the first line that begins so on; empty when none does."""
    lines = screen.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith(BEGINNINGS):
            return "\n".join(lines[number:])
    return ""


def judge(promise: Promise, facts: Facts) -> list[str]:
    """What is wrong; empty when the promise was kept."""
    problems = [*facts.notes, *_rewards(facts, torn=isinstance(promise, EndsWithin)), *_left(facts)]
    if "Traceback (most recent call last)" in facts.screen:
        problems.append("a traceback on the screen")
    if facts.code is None:
        problems.append(f"still running {facts.seconds:.0f} s after the fault")
        return problems
    if facts.seconds > promise.within:
        problems.append(f"took {facts.seconds:.0f} s, promised were {promise.within:g} s")
    match promise:
        case Exact():
            return problems + _exact(promise, facts)
        case EndsWithin():
            return problems + _ended(promise, facts)
        case Refused():
            return problems + _refused(promise, facts)


def _rewards(facts: Facts, torn: bool) -> list[str]:
    """Holds in every class: what was written is right, and written once.

    ``torn``: the last line may be cut off, as a kill or a full disk leaves it; a resumed run cuts it away.
    """
    problems = []
    if broken := sum("broken" in row for row in (facts.rows[:-1] if torn else facts.rows)):
        problems.append(f"{broken} line(s) of episodes.jsonl are no JSON")
    rows = [row for row in facts.rows if "broken" not in row]
    times = Counter(row["episode"] for row in rows)
    if twice := sorted(episode for episode, count in times.items() if count > 1):
        problems.append(f"{len(twice)} duplicate episode(s): {_some(twice)}")
    if strange := sorted(episode for episode in times if episode not in facts.expected or episode >= facts.total):
        problems.append(f"{len(strange)} episode(s) that nobody asked for: {_some(strange)}")
    wrong = [text for row in rows if row["episode"] in facts.expected and (text := _differs(row, facts.expected))]
    if wrong:
        problems.append(f"{len(wrong)} of {len(rows)} episodes are not as undisturbed: {'; '.join(wrong[:SHOWN])}")
    return problems


def _differs(row: dict[str, Any], expected: dict[int, dict[str, Any]]) -> str:
    other = expected[row["episode"]]
    names = [name for name in SAME if row.get(name) != other.get(name)]
    if not names and row["score"] != SCORE:
        return f"episode {row['episode']}: score {row['score']}, not {SCORE}"
    if not names:
        return ""
    return f"episode {row['episode']}: " + ", ".join(f"{n} {row.get(n)}, not {other.get(n)}" for n in names)


def _left(facts: Facts) -> list[str]:
    problems = []
    if facts.processes:
        problems.append(f"{len(facts.processes)} process(es) left: {_some(facts.processes)}")
    if facts.shm:
        problems.append(f"{len(facts.shm)} file(s) left in /dev/shm: {_some(facts.shm)}")
    if facts.sessions:
        problems.append(f"Ray's session folder is left: {_some(facts.sessions)}")
    return problems


def _exact(promise: Exact, facts: Facts) -> list[str]:
    if facts.code != 0:
        return [f"exit code {facts.code}, not 0: {_first(cause(facts.screen))}"]
    made = {row["episode"] for row in facts.rows if "broken" not in row}
    missing = facts.total - len(made)
    return [f"exit code 0 with {len(made)} of {facts.total} episodes"] if missing > promise.may_drop else []


def _ended(promise: EndsWithin, facts: Facts) -> list[str]:
    problems = []
    if facts.code not in promise.codes:
        problems.append(f"exit code {facts.code}, not {' or '.join(map(str, promise.codes))}")
    if not promise.nobody_left and promise.names:
        problems += _named(promise.names, facts)
    return problems


def _refused(promise: Refused, facts: Facts) -> list[str]:
    problems = []
    if facts.code not in promise.codes:
        problems.append(f"exit code {facts.code}, not {' or '.join(map(str, promise.codes))}")
    return problems + _named(promise.names, facts)


def _named(names: str, facts: Facts) -> list[str]:
    said = cause(facts.screen)
    if not said:
        return ["no line 'error: ...' names the cause"]
    if re.search(names, said, re.IGNORECASE | re.DOTALL) is None:
        return [f"the cause ({names}) is not named in: {_first(said)}"]
    return []


def _first(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "nothing said"


def _some(things: list[Any]) -> str:
    shown = ", ".join(str(thing) for thing in things[:SHOWN])
    return shown + (", ..." if len(things) > SHOWN else "")
