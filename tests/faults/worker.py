"""One fault in a process of its own: ``python -m tests.faults.worker NAME FOLDER``; the outcome is in FOLDER/NAME.json.

A process of its own, since it becomes a subreaper, may have a mount namespace, and ends whatever its runs left.
``FOLDER/undisturbed.json`` holds the rows that every run is compared with; the name ``undisturbed`` makes it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import registry
from tests.faults.judge import judge
from tests.faults.lab import Lab, Skipped
from tests.faults.processes import become_subreaper
from tests.faults.promises import EndsWithin, Exact
from tests.faults.run import NotReached

UNDISTURBED = "undisturbed"
LONGEST = 48  # episodes of the undisturbed run: as many as the longest of the others
PR_SET_PDEATHSIG = 1
TAIL = 1500  # characters of the screen that are kept
KEPT, BROKEN, SKIPPED = "kept", "BROKEN", "skipped"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What came of a fault. ``seconds``: from the fault to the end; ``wall_s``: of it all."""

    name: str
    promise: str
    what: str
    verdict: str
    seconds: float | None = None
    wall_s: float = 0.0
    code: int | None = None
    problems: list[str] = field(default_factory=list)
    cause: str = ""
    screen: str = ""


def undisturbed(folder: Path) -> Outcome:
    """Runs without a fault and keeps the rows, by which all others are judged."""
    started, promise = time.monotonic(), Exact(within=300)
    with Lab(UNDISTURBED, promise, folder / UNDISTURBED, {}) as lab:
        run = lab.start(total=LONGEST)
        facts = lab.facts(run)
    facts.expected = {row["episode"]: row for row in facts.rows if "broken" not in row}
    facts.sessions = []  # whether Ray's folder stays is the others' to find
    problems = judge(promise, facts)
    (folder / f"{UNDISTURBED}-rows.json").write_text(json.dumps(list(facts.expected.values())))
    return Outcome(
        UNDISTURBED,
        promise.text,
        "nothing",
        BROKEN if problems else KEPT,
        facts.seconds,
        round(time.monotonic() - started, 1),
        facts.code,
        problems,
        screen=facts.screen[-TAIL:],
    )


def run_fault(fault: registry.Fault, folder: Path) -> Outcome:
    """Injects it, judges what comes of it."""
    started = time.monotonic()
    expected = {row["episode"]: row for row in json.loads((folder / f"{UNDISTURBED}-rows.json").read_text())}
    outcome = Outcome(fault.name, fault.promise.text, fault.what, BROKEN)
    if fault.subreaper:
        become_subreaper()
    try:
        with Lab(fault.name, fault.promise, folder / fault.name, expected, fault.subreaper) as lab:
            _inject(fault, lab, outcome)
    except Skipped as reason:
        outcome.verdict, outcome.problems = SKIPPED, [str(reason)]
    except NotReached as error:
        outcome.problems = [f"the fault was not reached: {error}"]
    outcome.wall_s = round(time.monotonic() - started, 1)
    if outcome.verdict == KEPT:
        shutil.rmtree(folder / fault.name, ignore_errors=True)
    return outcome


def _inject(fault: registry.Fault, lab: Lab, outcome: Outcome) -> None:
    facts = fault.inject(lab)
    outcome.code, outcome.seconds = facts.code, facts.seconds
    outcome.screen = facts.screen[-TAIL:]
    outcome.problems = judge(fault.promise, facts)
    resumes = isinstance(fault.promise, EndsWithin) and fault.promise.resumes
    if resumes and facts.code is not None:
        lab.resumed_is_exact(lab.started[-1])
    outcome.problems += lab.problems
    outcome.verdict = BROKEN if outcome.problems else KEPT


def main(arguments: list[str]) -> int:
    name, folder = arguments[0], Path(arguments[1])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored below nohup, and a run below would rightly ignore it, too
    outcome = undisturbed(folder) if name == UNDISTURBED else run_fault(registry.load()[name], folder)
    result: dict[str, Any] = asdict(outcome)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1))
    return 0


def _stop(*_: object) -> None:
    """The laboratory then ends its runs, once: the group's signal and the parent's death may both come."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
