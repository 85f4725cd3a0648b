"""What a policy does in each of the proof's tasks, in numbers: where and when its hand closes, lets go, stops to push.

    python -m studies.proof_learnt runs/proof/start runs/proof/runs/vlac-0/checkpoints/last/policy --json FILE
    python -m studies.proof_learnt --world lift runs/proof-lift/start

Greedy, on fresh states (the tables' own), with the simulator's positions. Of each task's episodes:

high_mm   of the hand over the cube's centre, where the gripper first closes (Lift, LiftRed, LiftGreen)
aside_mm  of the hand from that centre, seen from above; Place: from the mat's, where the gripper opens again
other     share of the episodes in which the other cube is the nearer one there (LiftRed, LiftGreen)
apart_mm  Slide: between the centres of cube and mat, seen from above, the least of the episode
step      at which it happens
held      most steps in a row for which an episode's gripper is told to close, in all episodes (not Slide)
follows   slope of the hand's place there against the cube's (the mat's), seen from above, least squares over all
          episodes: 1 where the hand goes wherever the cube is, 0 where it goes to one place whatever is seen
missed_mm  median of aside_mm in the episodes that fail
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")

import numpy as np
import torch

from evo_vlac.outputs import write_json
from studies.proof_worlds import FRESH_SEED, WORLDS
from verl.envs.robosuite_env import RobosuiteEnv
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.warm_start import success_rate

AIMED = {"Lift": "cube", "LiftRed": "cubeA", "LiftGreen": "cubeB", "Place": "mat"}
OTHER = {"LiftRed": "cubeB", "LiftGreen": "cubeA"}
Scene = Mapping[str, np.ndarray]


class Watched:
    """An environment that remembers each episode: the scene before every step, and the step's gripper action."""

    def __init__(self, env: RobosuiteEnv) -> None:
        self.env, self.episodes = env, list[list[tuple[Scene, float]]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        self.env.reset(seed, task, training)
        self.episodes.append([])

    def step(self, action: np.ndarray) -> bool:
        self.episodes[-1].append((self.env.objects(), float(action[6])))
        return self.env.step(action)


def moment(task: str, episode: Sequence[tuple[Scene, float]]) -> int | None:
    """The step that counts, see above; None: it never comes."""
    if task == "Slide":
        return int(np.argmin([_apart(scene) for scene, _ in episode]))
    closed = np.array([gripper > 0 for _, gripper in episode])
    if not closed.any():
        return None
    first = int(np.argmax(closed))
    if task != "Place":
        return first
    opened = ~closed[first:]
    return first + int(np.argmax(opened)) if opened.any() else None


def measured(task: str, episode: Sequence[tuple[Scene, float]]) -> dict[str, float] | None:
    """The numbers of one episode; None where the moment never comes."""
    step = moment(task, episode)
    if step is None:
        return None
    scene = episode[step][0]
    if task == "Slide":
        return {"step": float(step), "apart_mm": 1000 * _apart(scene)}
    off = scene["eef"] - scene[AIMED[task]]
    told = {"step": float(step), "aside_mm": 1000 * float(np.hypot(*off[:2]))}
    if task != "Place":
        told["high_mm"] = 1000 * float(off[2])
    if task in OTHER:
        told["other"] = float(np.hypot(*(scene["eef"] - scene[OTHER[task]])[:2]) < np.hypot(*off[:2]))
    return told


def held(episode: Sequence[tuple[Scene, float]]) -> int:
    """See above; 0: it never closes."""
    runs = groupby(gripper > 0 for _, gripper in episode)
    return max((len(list(run)) for closed, run in runs if closed), default=0)


def follows(scenes: Sequence[Scene], aimed: str) -> float:
    """The slope, see above."""
    hand, there = (np.array([scene[name][:2] for scene in scenes]) for name in ("eef", aimed))
    hand, there = hand - hand.mean(axis=0), there - there.mean(axis=0)
    return float((hand * there).sum() / (there * there).sum())


def _apart(scene: Scene) -> float:
    """Metres between the centres of cube and mat, seen from above."""
    return float(np.hypot(*(scene["cube"] - scene["mat"])[:2]))


def look(policy: OpenVLAOFTPolicy, env: RobosuiteEnv, tasks: Sequence[str], episodes: int) -> dict[str, Any]:
    """By task: success, how many episodes had the moment, and quartiles of each number."""
    found: dict[str, Any] = {}
    for number, task in enumerate(tasks):
        watched: Any = Watched(env)
        success, steps = success_rate(policy, watched, range(FRESH_SEED, FRESH_SEED + episodes), 0.0, number)
        every = [measured(task, one) for one in watched.episodes]
        rows = [row for row in every if row is not None]
        failed = [row["aside_mm"] for row, step in zip(every, steps) if row and step < 0 and "aside_mm" in row]
        columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        other = {"other": round(float(np.mean(columns.pop("other"))), 3)} if "other" in columns else {}
        other |= {"missed_mm": round(float(np.median(failed)), 3)} if failed else {}
        spread = {key: np.quantile(column, (0.25, 0.5, 0.75)).round(3).tolist() for key, column in columns.items()}
        if task in AIMED:
            other["held"] = np.quantile([held(one) for one in watched.episodes], (0.25, 0.5, 0.75)).tolist()
        if task in AIMED and len(rows) > 1:
            at = [(one, step) for one in watched.episodes if (step := moment(task, one)) is not None]
            other["follows"] = round(follows([one[step][0] for one, step in at], AIMED[task]), 3)
        found[task] = {"success": success, "episodes": episodes, "counted": len(rows), **spread, **other}
        print(f"{task}: {found[task]}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+", type=Path)
    parser.add_argument("--world", choices=("robosuite", "lift"), default="robosuite")
    parser.add_argument("--episodes", type=int, default=60, help="of each task")
    parser.add_argument("--json", type=Path, help="written here, by policy")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    world = WORLDS[options.world]
    env, _ = world.environment()
    assert isinstance(env, RobosuiteEnv)
    found = {}
    for folder in options.policies:
        print(folder, flush=True)
        policy = OpenVLAOFTPolicy.from_pretrained(folder)
        found[str(folder)] = look(policy, env, world.tasks, options.episodes)
        if options.json is not None:
            write_json(options.json, found)
    env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
