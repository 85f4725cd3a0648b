"""Runs a fault in a process of its own, and reads what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.faults.run import ROOT
from tests.faults.worker import BROKEN, Outcome

LONGEST_S = 900.0  # a fault with its resumed run


def run_apart(name: str, folder: Path) -> Outcome:
    """The outcome of ``name``; a worker that fails itself is an outcome, too."""
    command = [sys.executable, "-m", "tests.faults.worker", name, str(folder)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return Outcome(name, "", "", BROKEN, problems=[f"the injector itself took more than {LONGEST_S:g} s"])
    result = folder / f"{name}.json"
    if done.returncode != 0 or not result.exists():
        tail = (done.stdout + done.stderr).strip()[-2000:]
        return Outcome(name, "", "", BROKEN, problems=[f"the injector itself failed ({done.returncode}): {tail}"])
    return Outcome(**json.loads(result.read_text()))
