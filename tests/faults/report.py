"""What came of the faults: a table for the terminal, one for docs/training.md, a file of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.registry import Fault
from tests.faults.run import ROOT
from tests.faults.worker import BROKEN, KEPT, Outcome

DOC = ROOT / "docs" / "training.md"
BEGIN = "<!-- faults: python -m tests.faults --table FILE -->"
END = "<!-- faults: end -->"
STYLES = {KEPT: "green", BROKEN: "bold red"}


def show_faults(console: Console, faults: Sequence[Fault]) -> None:
    """Names and promises."""
    table = Table("fault", "promise", "what happens", title=f"{len(faults)} faults")
    for fault in faults:
        table.add_row(fault.name, fault.promise.text, fault.what)
    console.print(table)


def show_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One row each, what is wrong below them."""
    kept = sum(outcome.verdict == KEPT for outcome in outcomes)
    table = Table("fault", "promise", "outcome", "exit", "seconds", title=f"{kept} of {len(outcomes)} promises kept")
    for outcome in outcomes:
        style = STYLES.get(outcome.verdict, "yellow")
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.0f}"
        code = "" if outcome.code is None else str(outcome.code)
        table.add_row(outcome.name, outcome.promise, f"[{style}]{outcome.verdict}[/]", code, seconds)
    console.print(table)
    for outcome in outcomes:
        for problem in outcome.problems:
            console.print(f"{outcome.name}: {problem}", markup=False, highlight=False, soft_wrap=True)


def markdown(faults: Sequence[Fault], outcomes: Sequence[Outcome]) -> str:
    """A row for each registered fault; without an outcome it says so."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    lines = ["| fault | what happens | promise | outcome | seconds |", "|---|---|---|---|---|"]
    for fault in faults:
        outcome = by_name.get(fault.name)
        seconds = "" if outcome is None or outcome.seconds is None else f"{outcome.seconds:.0f}"
        verdict = "not run" if outcome is None else outcome.verdict
        what = fault.what.replace("|", "\\|")
        lines.append(f"| `{fault.name}` | {what} | {fault.promise.text} | {verdict} | {seconds} |")
    return "\n".join(lines)


def write_table(faults: Sequence[Fault], outcomes: Sequence[Outcome], doc: Path = DOC) -> None:
    """Puts the table between the marks in ``doc``. Raises ValueError when they are not there."""
    text = doc.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{doc}: the marks {BEGIN} and {END} must be there once each")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    doc.write_text(f"{before}{BEGIN}\n\n{markdown(faults, outcomes)}\n\n{END}{after}")


def read_outcomes(file: Path) -> list[Outcome]:
    return [Outcome(**one) for one in json.loads(file.read_text())]
