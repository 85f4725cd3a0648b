"""``python -m tests.faults``: see the package's head. Exit code 1 when a promise was broken, 130 when interrupted."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tests.faults.apart import run_apart
from tests.faults.registry import Fault, choose
from tests.faults.report import read_outcomes, show_faults, show_outcomes, write_table
from tests.faults.worker import BROKEN, KEPT, UNDISTURBED, Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = _parse(arguments)
    console = Console()
    try:
        faults = choose(parsed.only)
    except ValueError as error:
        console.print(f"error: {error}", markup=False)
        return 2
    if parsed.list:
        show_faults(console, faults)
        return 0
    if parsed.table:
        write_table(choose([]), read_outcomes(parsed.table))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="vlac-faults-"))
    outcomes = _run(console, faults, folder, parsed.jobs, parsed.json)
    show_outcomes(console, outcomes)
    if any(outcome.verdict == BROKEN for outcome in outcomes):
        console.print(f"what the broken ones left: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults on whole runs, and a verdict.")
    parser.add_argument("--list", action="store_true", help="names and promises; nothing is run")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone; kill-* is allowed")
    parser.add_argument("--jobs", type=int, default=1, help="so many at once (2 on two cores; default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the outcomes")
    parser.add_argument("--table", type=Path, metavar="FILE", help="puts outcomes from FILE into docs/training.md")
    return parser.parse_args(arguments)


def _run(console: Console, faults: Sequence[Fault], folder: Path, jobs: int, file: Path | None) -> list[Outcome]:
    """In the order of the registry; each is shown, and in ``file``, when it has ended."""
    started = time.monotonic()
    first = run_apart(UNDISTURBED, folder)
    if first.verdict != KEPT:
        return [first]
    console.print(f"undisturbed: {first.wall_s:.0f} s; now {len(faults)} faults")
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(jobs) as pool:
        calls = [pool.submit(run_apart, fault.name, folder) for fault in faults]
        try:
            for outcome in _ended(calls):
                outcomes[outcome.name] = outcome
                if file is not None:
                    file.write_text(json.dumps([asdict(one) for one in outcomes.values()], indent=1) + "\n")
                seconds = "" if outcome.seconds is None else f", {outcome.seconds:.0f} s after the fault"
                console.print(f"{len(outcomes):3} {outcome.name}: {outcome.verdict}{seconds}", highlight=False)
        except KeyboardInterrupt:
            for call in calls:
                call.cancel()
            raise
    console.print(f"{time.monotonic() - started:.0f} s in all")
    return [outcomes[fault.name] for fault in faults]


def _ended(calls: Sequence) -> Iterator[Outcome]:
    for call in as_completed(calls):
        yield call.result()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.SubprocessError as error:
        sys.exit(f"error: {error}")
