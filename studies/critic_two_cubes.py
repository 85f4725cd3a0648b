"""Does the critic read the instruction? Two cubes on the table; every frame is asked about under both instructions.

    mixed=success:0.2,noisy:0.24,near_miss:0.15,drop:0.1,failure:0.11,expert_then_random:0.12,random:0.05,idle:0.03
    python -m verl.envs.collect --task LiftRed --out red.h5 --episodes 60 --seed 940000 --kinds $mixed
    python -m verl.envs.collect --task LiftGreen --out green.h5 --episodes 60 --seed 950000 --kinds $mixed
    python studies/critic_two_cubes.py red.h5 green.h5

Counted as a training lives them: an episode is said to be done at the first ``--hold`` dones in a row, which is right
when the simulator agrees at that frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import read_demonstrations
from evo_vlac.swift_engine import SwiftEngine
from verl.trainer.critic_folder import FILE, read_rules

ROOT = Path(__file__).resolve().parents[1]
CUBES = ("lift the red cube", "lift the green cube")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="demonstrations of LiftRed and LiftGreen")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "vlac-tiny")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--hold", type=int, help="dones in a row (default: what the model's critic.yaml says, else 1)")
    given = parser.parse_args(arguments)
    file = given.model / FILE
    asked = {rule.key: rule.value for rule in (read_rules(file) if file.is_file() else [])}
    given.hold = given.hold or asked.get("critic.hold", 1)
    counts = {"right": 0, "false": 0, "missed": 0, "neither": 0, "other cube, said done": 0}
    with Critic(SwiftEngine(given.model, device="cpu", max_batch_size=32), batch_size=64) as critic:
        for demo in read_demonstrations(given.files):
            if demo.dones is None or demo.task not in CUBES:
                parser.error(f"{demo.name}: not a demonstration of LiftRed or LiftGreen with the simulator's success")
            said = first_held(critic, demo, demo.task, given)
            counts[outcome(said, demo)] += 1
            other = CUBES[1 - CUBES.index(demo.task)]
            counts["other cube, said done"] += first_held(critic, demo, other, given) is not None
    episodes = sum(counts.values()) - counts["other cube, said done"]
    print(f"{episodes} episodes, {given.hold} dones in a row at {given.threshold}: {counts}")
    return 0


def first_held(critic: Critic, demo: Trajectory, task: str, given: argparse.Namespace) -> int | None:
    """The frame of the last of the first ``hold`` dones in a row."""
    row = 0
    for index, answer in enumerate(critic.done(list(demo.frames), task, threshold=given.threshold)):
        row = row + 1 if answer.done else 0
        if row == given.hold:
            return index
    return None


def outcome(said: int | None, demo: Trajectory) -> str:
    """One of the four fields of the table of done against success."""
    assert demo.dones is not None
    if said is None:
        return "missed" if any(demo.dones) else "neither"
    return "right" if demo.dones[said] else "false"


if __name__ == "__main__":
    sys.exit(main())
