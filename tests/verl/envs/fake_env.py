"""An environment without physics, for faults that must be timed: one that dies, hangs, fails or lies when told to.

The picture is the step number in every pixel, so that a reader can tell which frame it sees.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from verl.envs.base import Camera
from verl.errors import AssetsMissingError

SIZE = 32
HANG_S = 600.0


class FakeEnv:
    """``env_config`` keys: max_steps, task_steps (a limit a task), success_at (step), die_at, hang_at, raise_at,
    nan_at (by episode seed), refuse, success (of every step).
    """

    action_dim = 7
    tasks = 2

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.max_steps = int(config.get("max_steps", 20))
        self.cameras = (Camera("agentview", SIZE, SIZE), Camera("wrist", SIZE, SIZE // 2))
        self.instruction = "task 0"
        self.steps = self.seed = 0
        self.training: bool | None = None
        self.drawn: list[tuple[int, str]] = []

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        if self.config.get("refuse") == "crash":
            os._exit(7)
        if self.config.get("refuse") == "assets":
            raise AssetsMissingError("LIBERO's assets: not here")
        self.seed, self.steps, self.instruction, self.training = seed, 0, f"task {task}", training
        if self.config.get("task_steps"):
            self.max_steps = self.config["task_steps"][task]
        self.drawn = []

    def step(self, action: np.ndarray) -> bool:
        self.steps += 1
        if self.steps == 3 and self.seed == self.config.get("die_at"):
            os._exit(9)
        if self.steps == 3 and self.seed == self.config.get("hang_at"):
            time.sleep(HANG_S)
        if self.steps == 3 and self.seed == self.config.get("raise_at"):
            raise RuntimeError("unstable simulation")
        if "success" in self.config:
            return self.config["success"]  # type: ignore[no-any-return]
        return self.steps >= self.config.get("success_at", 10**6)

    def render(self, camera: str, out: np.ndarray) -> None:
        out[:] = self.steps
        out[0] = 255  # the lowest row, stored first
        self.drawn.append((self.steps, camera))

    def proprio(self) -> np.ndarray:
        if self.config.get("refuse") == "shape":
            return np.zeros(7, np.float32)
        broken = self.steps == 8 and self.seed == self.config.get("nan_at")
        return np.full(8, np.nan if broken else self.steps, np.float32)

    def close(self) -> None:
        pass
