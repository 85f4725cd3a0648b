"""Episodes of a policy, as a demonstration file: what a critic is asked about in training, and must not be fooled by.

    python studies/collect_policy_episodes.py --out policy.h5 --episodes 160 --seed 400000

The policy samples its actions at a temperature drawn for each episode. Frames, actions and the simulator's success of
each frame are written as `python -m verl.envs.collect` writes them, kind `policy`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import numpy as np
import torch

from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from verl.envs.collect import Demo
from verl.envs.libero_env import LiberoEnv
from verl.envs.robosuite_env import RobosuiteConfig, RobosuiteEnv
from verl.models.openvla_oft.policy import OpenVLAOFTPolicy

ROOT = Path(__file__).resolve().parents[1]
logger = logging.getLogger("collect_policy_episodes")


def episode(
    env: RobosuiteEnv | LiberoEnv,
    policy: OpenVLAOFTPolicy,
    seed: int,
    temperature: float,
    task: int = 0,
    training: bool = True,
) -> Demo:
    """One episode to its last step: what comes after a success (a drop, say) is worth seeing too."""
    env.reset(seed, task, training)
    generator = torch.Generator().manual_seed(seed)
    seen: dict[str, list[np.ndarray]] = {camera.name: [] for camera in env.cameras}
    dones, proprio, objects, actions = [False], [env.proprio()], [env.objects()], []

    def see() -> None:
        for camera in env.cameras:
            buffer = np.empty(camera.shape, np.uint8)
            env.render(camera.name, buffer)
            seen[camera.name].append(np.ascontiguousarray(camera.upright(buffer)))

    see()
    while len(actions) < env.max_steps:
        pictures = np.stack([frames[-1] for frames in seen.values()])
        with torch.inference_mode():
            chunk = policy.predict(
                pictures[None], [env.instruction], proprio[-1][None], temperature, generator
            ).actions[0]
        for action in np.asarray(chunk, np.float32)[: env.max_steps - len(actions)]:
            dones.append(env.step(action))
            actions.append(action)
            proprio.append(env.proprio())
            objects.append(env.objects())
            see()
    frames = {name: np.stack(pictures) for name, pictures in seen.items()}
    trajectory = Trajectory(
        name=f"seed {seed}",
        task=env.instruction,
        frames=frames.pop(env.cameras[0].name),
        dones=tuple(map(bool, dones)),
        success=any(dones),
        kind="policy",
        seed=seed,
        actions=np.stack(actions),
        proprio=np.stack(proprio),
        objects={name: np.stack([places[name] for places in objects]).astype(np.float32) for name in objects[0]},
    )
    return Demo(trajectory, frames)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, default=ROOT / "models" / "openvla-oft-tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", default="Lift")
    parser.add_argument("--episodes", type=int, default=160)
    parser.add_argument("--seed", type=int, default=400_000, help="seed of the first episode; episode i has seed + i")
    parser.add_argument("--temperatures", type=float, nargs=2, default=(0.2, 0.8), metavar=("LOW", "HIGH"))
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: drawing in this thread is faster than waking others
    torch.set_num_threads(1)
    policy = OpenVLAOFTPolicy.from_pretrained(options.policy).eval()
    env = RobosuiteEnv(RobosuiteConfig(tasks=(options.task,)))
    try:
        with Hdf5Writer(options.out, "robosuite", env.instruction) as writer:
            successes = 0
            for index in range(options.episodes):
                seed = options.seed + index
                temperature = float(np.random.default_rng(seed).uniform(*options.temperatures))
                demo = episode(env, policy, seed, temperature).trajectory
                writer.write(demo)
                successes += bool(demo.success)
                if (index + 1) % 20 == 0:
                    logger.info("%d of %d episodes, %d successes", index + 1, options.episodes, successes)
    finally:
        env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
