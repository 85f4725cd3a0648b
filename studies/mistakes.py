"""From a mistake to its error: whole commands, each with one mistake, and the seconds until it is told.

    python studies/mistakes.py [--json FILE]

Each must end with exit code 2 and one message that names the key, before anything is started: no run folder is made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MISTAKES = (
    ("an unknown key", "data.n_sampels=4", "data.n_sampels"),
    ("a word for a number", "data.n_samples=many", "data.n_samples"),
    ("a number out of range", "actor_rollout_ref.actor.grad_clip=-1", "grad_clip"),
    ("an unknown key of the sidecar", "critic.sidecar.config.batch.max_sise=3", "batch.max_sise"),
    ("a sidecar's number out of range", "critic.sidecar.config.batch.max_size=0", "batch.max_size"),
    ("a critic's folder as policy", "actor_rollout_ref.model.path=models/vlac-tiny", "model.path"),
    ("a policy's folder as critic", "critic.sidecar.config.model=models/openvla-oft-tiny", "config.model"),
    ("a camera that is not there", "env.cameras=[agentveiw]", "env.cameras"),
    ("a task that is not there", "env.tasks=[Lfit]", "env.tasks"),
    ("LIBERO's suite without env=libero", "data.task_suite_name=libero_goal", "data.task_suite_name"),
)


def tried(argument: str, runs: str) -> tuple[int, str, float]:
    """Exit code, last lines of the screen, seconds."""
    command = [sys.executable, "-m", "verl.launch", argument, f"trainer.default_local_dir={runs}"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stderr.strip(), time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="the table as a list of rows")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as runs:
        for what, argument, key in MISTAKES:
            code, said, seconds = tried(argument, runs)
            told = code == 2 and said.startswith("error:") and key in said and not list(Path(runs).iterdir())
            rows.append(
                {"mistake": what, "argument": argument, "told": told, "seconds": round(seconds, 1), "said": said}
            )
            sys.stdout.write(f"{'told' if told else 'NOT TOLD'}  {seconds:4.1f} s  {argument}\n          {said}\n")
            sys.stdout.flush()
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["told"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
