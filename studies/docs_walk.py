"""Every command that the pages show: which there are, and each run as a reader would.

    python -m studies.docs_walk list                 page, line, command
    python -m studies.docs_walk run [--only WORD]    runs them, with what docs/results/walk.json has in their place

``walk.json`` holds for each command as it is shown: the page, what was run for it ("run": the same, or with names and
lengths that fit here; empty where it cannot be run here, with the reason in "remark"), exit code and seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from verl.limited import run_limited

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "walk.json"
ENDED = "ended after"
ENDING_S = 60.0  # for a run to end by itself
_WORDS = r"\./launch\.sh|\./vlac|python -m|python (?:studies|examples)/\S+|tests/run\.sh|examples/\w+\.sh|pip install"
_WORDS += r"|source \.venv|towncrier|docker|torchrun|evo-vlac|sbatch|srun|ray start"
_COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{_WORDS})(?=[ ;]|$).*|(?:[A-Z_]+=\S+ )+examples/\w+\.sh.*")


@dataclass
class Walked:
    """One command, and what became of it."""

    page: str
    command: str
    run: str
    exit: int | None = None
    seconds: float | None = None
    remark: str = ""


def pages(root: Path = ROOT) -> list[Path]:
    """What a reader reads."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted(root.glob("docs/*.md")),
            *sorted(root.glob("models/*/README.md")), root / "tests" / "README.md"]  # fmt: skip


def commands(page: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and commands of a page: of its blocks and of its text, each as often as it is shown."""
    lines = page.read_text().splitlines()
    for at, line in enumerate(lines):
        if line.startswith("    "):
            whole = line
            for more in lines[at + 1 :]:
                if not whole.endswith("\\"):
                    break
                whole = whole[:-1].rstrip() + " " + more.strip()
            found = [re.split(r"\s{2,}|\s+#\s", whole.strip())[0]]
        else:
            found = re.findall(r"`([^`]+)`", line)
        for one in found:
            if _COMMAND.fullmatch(one):
                yield at + 1, one


def run(wanted: str, limit_s: float) -> None:
    """Runs those that contain ``wanted``; the results are written after each."""
    rows = [Walked(**row) for row in json.loads(RESULTS.read_text())] if RESULTS.exists() else []
    known = {row.command: row for row in rows}
    for page in pages():
        for _, command in commands(page):
            if command not in known:
                known[command] = Walked(str(page.relative_to(ROOT)), command, command)
    for row in known.values():
        if wanted in row.command and row.run:
            started = time.monotonic()
            row.exit = _run(row.run, limit_s)
            row.seconds = round(time.monotonic() - started, 1)
            if row.exit is None:
                row.remark = f"{ENDED} {limit_s:g} s"
            elif row.remark.startswith(ENDED):
                row.remark = ""
            RESULTS.write_text(json.dumps([asdict(row) for row in known.values()], indent=1) + "\n")


def _run(command: str, limit_s: float) -> int | None:
    """Its exit code, once its output is shown; None when it took too long and was ended, with all it had started."""
    ended = run_limited(["bash", "-c", command], limit_s, {}, ENDING_S)
    sys.stdout.write(ended.output)
    sys.stderr.write(ended.errors)
    return ended.code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("list", "run"))
    parser.add_argument("--only", default="", metavar="WORD", help="commands that contain it")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each (default: %(default)s)")
    options = parser.parse_args()
    os.chdir(ROOT)  # as a reader stands
    if options.what == "run":
        run(options.only, options.limit)
        return 0
    for page in pages():
        for line, command in commands(page):
            if options.only in command:
                sys.stdout.write(f"{page.relative_to(ROOT)}:{line}: {command}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
