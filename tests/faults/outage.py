"""``python -m tests.faults.outage``: the real engine fails three times in the middle of a run, and no reward notices.

    undisturbed run   --updates' digests--+
    run with outages  --updates' digests--+--> equal for every update: the learner got the same, byte for byte

The default task with the shipped critic (``direct``), the filter on, one query a batch. The engine is down for 20 s: in
the middle of a rollout; across an update; and from a moment on at which a value list is open.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.processes import become_subreaper
from tests.faults.run import ROOT, NotReached, Options, Run

DOWN_S = 20.0
AFTER_UPDATE_S = 10.0  # the engine stays down for so long of the rollout that follows
EPISODES = 96
LONGEST_S = 900.0
Digests = dict[int, tuple[int, str]]  # number of samples and their digest, by update
DIGEST = re.compile(r"update (\d+): (\d+) samples, digest ([0-9a-f]{32})")
DEFAULT_TASK = (
    "data.val_batch_size=4",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.videos=0",
    "trainer.logger=[console]",
    "critic.sidecar.config.batch.max_size=1",
)


@dataclass(slots=True)
class Outage:
    """``failed``: batches that failed in it; ``values``: those with a pair of a value list."""

    when: str
    failed: int
    values: int


class Engine:
    """The switch of a run's engine: see ``broken_engine/sitecustomize.py``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.down, self.armed, self.failed = folder / "down", folder / "arm-values", folder / "failed"
        self.python = folder / "python"
        path = f"{ROOT / 'tests' / 'faults' / 'broken_engine'}:{ROOT}:$PYTHONPATH"
        self.python.write_text(
            f'#!/bin/sh\nexport VLAC_BREAK="{folder}" PYTHONPATH="{path}"\nexec "{sys.executable}" "$@"\n'
        )
        self.python.chmod(0o755)

    def failures(self) -> list[str]:
        return self.failed.read_text().splitlines() if self.failed.exists() else []


def start(folder: Path, name: str) -> tuple[Run, Engine]:
    """The default task with an engine that can be switched off."""
    engine = Engine(folder / f"engine-{name}")
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    arguments = [f"critic.sidecar.python={engine.python}"]
    return Run(name, arguments, runs, {}, True, Options(total=EPISODES, base=DEFAULT_TASK)), engine


def break_three_times(run: Run, engine: Engine) -> list[Outage]:
    """Raises NotReached when the run ends before all three."""
    outages = []
    with _outage(engine, outages, "in a rollout"):
        run.wait_episodes(10)
        engine.down.touch()
        _last(run, DOWN_S)
    with _outage(engine, outages, "across an update"):
        run.wait_update()
        begun = time.monotonic()
        engine.down.touch()
        run.until(lambda: run.phase() == "ROLLOUT", "phase ROLLOUT")
        _last(run, max(AFTER_UPDATE_S, DOWN_S - (time.monotonic() - begun)))
    with _outage(engine, outages, "while a value list is open"):
        engine.armed.touch()
        run.until(engine.down.exists, "a value list is asked for")
        _last(run, DOWN_S)
    return outages


@contextmanager
def _outage(engine: Engine, outages: list[Outage], when: str) -> Iterator[None]:
    before = len(engine.failures())
    try:
        yield
    finally:
        engine.down.unlink(missing_ok=True)
        lines = engine.failures()[before:]
        outages.append(Outage(when, len(lines), sum("critic" in line for line in lines)))


def _last(run: Run, seconds: float) -> None:
    end = time.monotonic() + seconds
    run.until(lambda: time.monotonic() > end, "the outage's end", seconds + 10)


def digests(run: Run) -> Digests:
    return {int(number): (int(count), digest) for number, count, digest in DIGEST.findall(run.log())}


def problems(undisturbed: Digests, broken: Digests, outages: list[Outage]) -> list[str]:
    """What is wrong; empty when every update's samples are equal, and every outage really happened."""
    found = [f"no batch failed {one.when}: the outage did not happen" for one in outages if not one.failed]
    found += [f"no value list failed {one.when}" for one in outages if "value list" in one.when and not one.values]
    if not undisturbed:
        found.append("the undisturbed run made no update")
    for number in sorted({*undisturbed, *broken}):
        if undisturbed.get(number) != broken.get(number):
            found.append(f"update {number}: {broken.get(number)}, undisturbed {undisturbed.get(number)}")
    return found


def compare(console: Console, folder: Path) -> dict:
    """Runs both; what was found, with ``problems`` among it."""
    run, _ = start(folder, "undisturbed")
    found: list[str] = []
    try:
        facts = run.facts(LONGEST_S)
        undisturbed = digests(run)
        if facts.code != 0:
            found.append(f"the undisturbed run ended with {facts.code}: {facts.screen[-500:]}")
    finally:
        _close(run)
    console.print(f"undisturbed: {len(undisturbed)} updates in {facts.seconds:.0f} s")
    run, engine = start(folder, "outage")
    outages: list[Outage] = []
    try:
        outages = break_three_times(run, engine)
        facts = run.facts(LONGEST_S)
        if facts.code != 0:
            found.append(f"the run with outages ended with {facts.code}: {facts.screen[-500:]}")
    except NotReached as error:
        found.append(f"the run with outages did not come to all three: {error}")
    finally:
        broken = digests(run)
        _close(run)
    found += problems(undisturbed, broken, outages)
    _show(console, undisturbed, broken, outages, found)
    return {
        "undisturbed": undisturbed,
        "with_outages": broken,
        "outages": [asdict(one) for one in outages],
        "seconds": facts.seconds,
        "problems": found,
    }


def _show(console: Console, undisturbed: dict, broken: dict, outages: list[Outage], found: list[str]) -> None:
    table = Table("update", "samples", "undisturbed", "with outages", "equal")
    for number in sorted({*undisturbed, *broken}):
        one, other = undisturbed.get(number, ("", "")), broken.get(number, ("", ""))
        table.add_row(str(number), str(other[0]), one[1], other[1], "yes" if one == other else "[bold red]NO[/]")
    console.print(table)
    for outage in outages:
        console.print(f"{outage.when}: {outage.failed} batches failed, {outage.values} of a value list")
    for problem in found:
        console.print(problem, markup=False)


def _close(run: Run) -> None:
    for session in run.close():
        shutil.rmtree(session, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.outage", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes what was found")
    parsed = parser.parse_args()
    become_subreaper()
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="vlac-outage-"))
    found = compare(console, folder)
    if parsed.json:
        parsed.json.write_text(json.dumps(found, indent=1) + "\n")
    if found["problems"]:
        console.print(f"what the runs left: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
