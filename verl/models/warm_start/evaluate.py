"""Success of a policy by the simulator: one process, no critic, a fixed list of seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from verl.envs.base import Environment
from verl.envs.robosuite_env import RobosuiteConfig, RobosuiteEnv
from verl.models.openvla_oft import OpenVLAOFTPolicy


def success_rate(
    policy: OpenVLAOFTPolicy,
    env: Environment,
    seeds: Sequence[int],
    temperature: float,
    task: int = 0,
    sampling_seed: int = 0,
    progress: Callable[[bool], None] = lambda success: None,
    training: bool = False,
) -> tuple[float, list[int]]:
    """Runs one episode of the environment's ``task`` a seed; returns the share of successes and each one's step.

    Actions are sampled at ``temperature`` (0: greedy) from a generator of ``sampling_seed``. Without success the step
    is -1. ``training``: on training's states instead of evaluation's.
    """
    generator = torch.Generator().manual_seed(sampling_seed)
    steps = []
    for seed in seeds:
        env.reset(seed, task, training)
        steps.append(_episode(policy, env, temperature, generator))
        progress(steps[-1] >= 0)
    return float(np.mean([step >= 0 for step in steps])), steps


def _episode(policy: OpenVLAOFTPolicy, env: Environment, temperature: float, generator: torch.Generator) -> int:
    frames = {camera.name: np.zeros(camera.shape, np.uint8) for camera in env.cameras}
    step = 0
    while step < env.max_steps:
        for name, frame in frames.items():
            env.render(name, frame)
        images = np.stack([camera.upright(frames[camera.name]) for camera in env.cameras])
        output = policy.predict(images[None], [env.instruction], env.proprio()[None], temperature, generator)
        for action in output.actions[0][: env.max_steps - step]:
            if env.step(action):
                return step
            step += 1
    return -1


def make_env(tasks: Sequence[str], cameras: Sequence[str], image_size: int, max_steps: int) -> RobosuiteEnv:
    """The environment that demonstrations and evaluation share."""
    return RobosuiteEnv(RobosuiteConfig(tuple(tasks), max_steps, tuple(cameras), image_size))
