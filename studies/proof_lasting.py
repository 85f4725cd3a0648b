"""Which successes last: the simulator calls a cube lifted that goes up for a moment.

    python -m studies.proof_lasting runs/proof --episodes 30 [--only simulator-0 vlac-0 ...]

The start and every training's last policy of a work folder of :mod:`studies.proof`, greedy, on the tables' own fresh
states. Episodes are played to their last step, whatever the simulator says on the way, so that what comes after a
success is seen. ``lasting-NAME.json`` in the folder, by task: ``episodes``, of these ``ever`` (successful at one step
at least), ``end`` (at the last step, too), ``moment`` (never for more than :data:`MOMENT` steps in a row).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")

import torch

from evo_vlac.outputs import write_json
from studies.collect_policy_episodes import episode
from studies.proof_worlds import FRESH_SEED, WORLDS
from verl.models.openvla_oft import OpenVLAOFTPolicy

MOMENT = 4  # steps: a chunk


def lasting(episodes: Sequence[Sequence[bool]]) -> dict[str, int]:
    """Of episodes, each the simulator's success step by step."""
    ever = [dones for dones in episodes if any(dones)]
    counts = {"episodes": len(episodes), "ever": len(ever), "end": sum(dones[-1] for dones in ever)}
    return {**counts, "moment": sum(longest(dones) <= MOMENT for dones in ever)}


def longest(dones: Sequence[bool]) -> int:
    """The most steps in a row that are successful."""
    best = now = 0
    for done in dones:
        now = now + 1 if done else 0
        best = max(best, now)
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--world", choices=("robosuite", "lift"), default="robosuite")
    parser.add_argument("--episodes", type=int, default=30, help="of each task")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="start, or a training's name")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    world = WORLDS[options.world]
    env, _ = world.environment()
    ended = sorted((options.work / "runs").glob("*-[0-9]*/summary.json"))
    policies = {"start": options.work / "start"}
    policies |= {file.parent.name: file.parent / "checkpoints" / "last" / "policy" for file in ended}
    for name in options.only or policies:
        file = options.work / f"lasting-{name}.json"
        if file.exists():
            continue
        policy, found, seeds = OpenVLAOFTPolicy.from_pretrained(policies[name]), {}, range(options.episodes)
        for number, task in enumerate(world.tasks):
            played = [episode(env, policy, FRESH_SEED + seed, 0.0, number, training=False) for seed in seeds]
            found[task] = lasting([one.trajectory.dones for one in played])
            print(f"{name}, {task}: {found[task]}", flush=True)
        write_json(file, found)
    env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
