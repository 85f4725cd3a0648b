"""Does the label-free critic read which cube? Its training with and without VLAC's task descriptions.

    python -m studies.proof --only demonstrations                 # the films, in runs/proof/demos
    python -m studies.proof_words                                 # resumable; about half an hour on one core

The proof's critic was shown wrong instructions as negatives, and says done all the same when the other of two cubes is
lifted. Here it learns on, from the same films of LiftRed and LiftGreen, with pairs that ask for the task's description:
which cube went up must be said there, while a wrong instruction only tells that something of the two does not fit. Then
both are asked about further demonstrations, most of which lift the other cube (``--kinds otherwise``), as a training
asks: two dones in a row, right where the simulator agrees. The result is ``words`` of docs/results/proof.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")

from evo_vlac.critic import Critic
from evo_vlac.datasets.hdf5 import read_demonstrations
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.training.pairs import Shares
from studies.critic_two_cubes import outcome
from studies.proof_critic import label_free
from studies.proof_report import provenance
from studies.proof_verdicts import HOLD, held_at
from studies.proof_worlds import WORLDS
from studies.results import enter

ROOT = Path(__file__).resolve().parents[1]
BEGIN = ROOT / "models" / "vlac-tiny-tasks"
TASKS = ("LiftRed", "LiftGreen")
SHARES = Shares(done=0.4, done_wrong_task=0.26, critic=0.08, reversed=0.03, stagnant=0.02, failed=0.03, describe=0.18)
STEPS, FIRST_SEED, EPISODES = 3000, 1_700_000, 40
LINES = (0.5, 0.8)


def further(folder: Path) -> list[Path]:
    """Files of further demonstrations, :data:`EPISODES` a task, most of which lift the other cube."""
    files = []
    for number, task in enumerate(TASKS):
        out = folder / f"{task}-further.h5"
        if not out.exists():
            command = [sys.executable, "-m", "verl.envs.collect", *WORLDS["robosuite"].collected[task]]
            command += ["--kinds", "otherwise", "--episodes", str(EPISODES), "--out", str(out)]
            subprocess.run([*command, "--seed", str(FIRST_SEED + 20_000 * number)], check=True, cwd=ROOT)
        files.append(out)
    return files


def judged(model: Path, files: Sequence[Path]) -> dict[str, dict[str, int]]:
    """By threshold, how many episodes were ended rightly or falsely, and were missed or rightly not ended."""
    counts = {line: Counter[str]() for line in LINES}
    with Critic(SwiftEngine(model, device="cpu", max_batch_size=32), batch_size=64) as critic:
        for demo in read_demonstrations(files):
            said = [answer.probability for answer in critic.done(list(demo.frames), demo.task)]
            for line in LINES:
                counts[line][outcome(held_at([p > line for p in said], HOLD), demo)] += 1
    return {str(line): dict(sorted(found.items())) for line, found in counts.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, default=ROOT / "runs" / "proof" / "demos")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "proof-words")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "results" / "proof.json")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)

    def films(*names: str) -> list[Path]:
        return [given.films / f"{task}-{name}.h5" for name in names for task in sorted(TASKS)]

    told = label_free(given.work / "critic", films("expert"), films("play", "near"), STEPS, SHARES, BEGIN)
    files = further(given.work)
    found = {"published": judged(BEGIN, files), "with_descriptions": judged(told, files)}
    print(found)
    enter(given.json, "words", {**found, **provenance()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
