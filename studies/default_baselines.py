"""What the default task is worth as a proof: success without learning, and success where the cube lies further away.

    python studies/default_baselines.py --trained runs/latest/checkpoints/last/policy --json docs/results/baselines.json

Rows: the start policy; the start policy with a constant added to its vertical action while the gripper is open; a
script that never looks (an expert's actions for a cube in the middle); the trained policy; the trained policy with the
cube within larger squares than the 3 cm of training. All greedy, by the simulator, on fresh evaluation states.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from verl.envs.robosuite_env import RobosuiteEnv
from verl.envs.scripted import ScriptedExpert
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.warm_start.evaluate import make_env, success_rate
from verl.trainer.report.table import wilson

START = "models/openvla-oft-tiny"
FIRST_SEED = 150_000  # evaluation states (verl.envs.split) that no published table uses
MAX_STEPS = 32
SHIFTS = (-0.4, -0.6, -0.8, -1.0)
BLIND_SEED = 4  # the best of the experts 0 to 7 on 40 other states (0 to 32 %)
RANGES_CM = (4.5, 6.0, 9.0)


class Shifted:
    """A policy whose action ``dim`` is moved by ``shift`` while the gripper's action is to open."""

    def __init__(self, policy: OpenVLAOFTPolicy, shift: float, dim: int = 2) -> None:
        self.policy, self.shift, self.dim = policy, shift, dim

    def predict(self, *arguments: Any) -> Any:
        output = self.policy.predict(*arguments)
        actions = np.array(output.actions)
        actions[..., self.dim] += self.shift * (actions[..., 6] < 0)
        return output._replace(actions=actions)


class Blind:
    """Plays the actions of one expert's episode again, whatever it sees. One policy for one episode."""

    def __init__(self, actions: np.ndarray) -> None:
        self.actions, self.step = actions, 0

    def predict(self, *_: Any) -> Any:
        chunk = self.actions[self.step : self.step + 8]
        self.step = (self.step + 8) % MAX_STEPS
        return argparse.Namespace(actions=chunk[None])


def blind_actions(env: RobosuiteEnv) -> np.ndarray:
    """(32, 7) float32: a noiseless expert's actions for a cube in the middle of the table."""
    env.reset(FIRST_SEED, 0, training=False)
    cube = env.objects()["cube"]
    middle = np.array([0.0, 0.0, cube[2]])
    expert = ScriptedExpert("Lift", "success", BLIND_SEED, MAX_STEPS)
    expert._noise = 0.0
    found = []
    for _ in range(MAX_STEPS):
        action = expert.act({**env.objects(), "cube": middle})
        found.append(action if action is not None else found[-1])
        env.step(found[-1])
    return np.stack(found)


def cube_within(env: RobosuiteEnv, centimetres: float) -> None:
    """The cube's place is drawn from a square of +- so many centimetres; robosuite's own is 3."""
    env.reset(FIRST_SEED, 0, training=False)
    sampler = env.world.env.placement_initializer
    sampler.x_range = sampler.y_range = [-centimetres / 100, centimetres / 100]


def provenance(arguments: list[str]) -> dict[str, str]:
    """What a figure needs beside it: command, commit, date."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    command = f"python studies/default_baselines.py {' '.join(arguments)}"
    return {"command": command, "commit": commit.strip(), "date": time.strftime("%Y-%m-%d")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", required=True, metavar="FOLDER", help="a policy that the default has trained")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start, trained = OpenVLAOFTPolicy.from_pretrained(START), OpenVLAOFTPolicy.from_pretrained(given.trained)
    env = make_env(["Lift"], ["agentview"], 112, MAX_STEPS)
    script = blind_actions(env)
    rows: list[tuple[str, float, Callable[[], Any]]] = [("start", 3.0, lambda: start)]
    rows += [(f"start, z {shift:+.1f} while open", 3.0, lambda s=shift: Shifted(start, s)) for shift in SHIFTS]
    rows += [("blind script", 3.0, lambda: Blind(script)), ("trained", 3.0, lambda: trained)]
    rows += [(f"trained, cube within {size:g} cm", size, lambda: trained) for size in RANGES_CM]
    seeds = range(FIRST_SEED, FIRST_SEED + given.episodes)
    table, results = Table("policy", "success", "95 %"), []
    with Progress(transient=True) as progress:
        for name, size, make in rows:
            task = progress.add_task(name, total=given.episodes)
            cube_within(env, size)
            _, steps = success_rate(make(), env, seeds, 0.0, progress=lambda _, t=task: progress.advance(t))
            successes = sum(step >= 0 for step in steps)
            low, high = wilson(successes, len(steps))
            results.append({"policy": name, "success": successes / len(steps), "low": low, "high": high})
            table.add_row(name, f"{successes / len(steps):.1%}", f"{low:.0%} to {high:.0%}")
            progress.remove_task(task)
            if given.json:
                told = {
                    **provenance(sys.argv[1:]),
                    "episodes": given.episodes,
                    "first_seed": FIRST_SEED,
                    "rows": results,
                }
                Path(given.json).write_text(json.dumps(told, indent=1) + "\n")
    env.close()
    Console().print(table)


if __name__ == "__main__":
    main()
