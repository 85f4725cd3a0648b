"""The proof's films: scripted episodes in HDF5, a file a task and kind, by the environment's collector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from studies.proof_worlds import World

ROOT = Path(__file__).resolve().parents[1]
FILES = {  # by their kinds in World.kinds: seed of the first episode (and 20 000 more a task), share of --episodes
    "mixed": (500_000, 1.0),
    "expert": (700_000, 1.0),
    "play": (900_000, 0.5),
    "near": (1_100_000, 0.5),
    "expert_new": (1_300_000, 1 / 15),
    "near_new": (1_400_000, 2 / 15),
}


def collect(world: World, folder: Path, episodes: int, workers: int) -> None:
    """``TASK-NAME.h5`` in ``folder`` for each of :data:`FILES` and each task; what is there is not made again."""
    for name, (first, share) in FILES.items():
        for number, (task, arguments) in enumerate(world.collected.items()):
            out = folder / f"{task}-{name}.h5"
            if out.exists() or name not in world.kinds:
                continue
            command = [sys.executable, "-m", "verl.envs.collect", *arguments, "--out", out, "--workers", workers]
            kinds = world.kinds[name]
            if name == "mixed":  # for the policy; the critic is shown the first camera alone
                command += ["--cameras", ",".join(world.section["cameras"])]
                kinds = world.mistakes.get(task, kinds)
            command += ["--kinds", kinds, "--episodes", max(1, round(share * episodes))]
            command += ["--seed", first + 20_000 * number]
            subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def films(folder: Path, *names: str) -> list[Path]:
    """The files of these names, in the order of their tasks' names."""
    return [file for name in names for file in sorted(folder.glob(f"*-{name}.h5"))]
