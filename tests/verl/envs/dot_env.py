"""An environment that takes no time to build: a dot on a plane, moved by the actions, that should reach a corner.

What an episode looks like follows from its seed and its actions, to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from verl.envs.base import Camera

SIZE = 32


class DotEnv:
    """``env_config`` keys: max_steps, step_s (seconds that a step takes), size (of the pictures, pixels)."""

    action_dim = 7
    tasks = 2

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.max_steps = int(config.get("max_steps", 24))
        self.step_s = float(config.get("step_s", 0.0))
        self.size = int(config.get("size", SIZE))
        self.cameras = (Camera("agentview", self.size, self.size),)
        self.instruction = "lift the red cube"
        self.place, self.task = np.zeros(2), 0

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        self.task = task
        self.place = np.random.default_rng((seed, task)).uniform(0.3, 0.5, 2)

    def step(self, action: np.ndarray) -> bool:
        time.sleep(self.step_s)
        self.place = np.clip(self.place + 0.05 * action[:2], 0.0, 1.0)
        return bool(self.place.sum() > 1.2)

    def render(self, camera: str, out: np.ndarray) -> None:
        x, y = np.round(self.place * (self.size - 4)).astype(int)
        out[:] = 40 * (1 + self.task)
        out[y : y + 4, x : x + 4] = (255, 0, 0)

    def proprio(self) -> np.ndarray:
        return np.concatenate([self.place, np.zeros(6)]).astype(np.float32)

    def close(self) -> None:
        pass
