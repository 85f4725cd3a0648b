"""The simulators of the plain way: this project's, or robosuite's own as its users make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from verl.envs.base import Environment, axis_angle
from verl.envs.factory import create_environment
from verl.errors import ConfigError


class Simulator(Protocol):
    """A simulator that hands out an upright frame, (H, W, 3) uint8, when asked."""

    instruction: str
    max_steps: int

    def reset(self, seed: int) -> None: ...

    def step(self, action: np.ndarray) -> None: ...

    def frame(self) -> np.ndarray: ...

    def proprio(self) -> np.ndarray: ...

    def close(self) -> None: ...


def make_simulator(env: Mapping[str, Any], own: bool) -> Simulator:
    """``own``: the library's own loop and renderer."""
    return RobosuitesOwn(env) if own else OurSimulator(create_environment(env))


class OurSimulator:
    """:class:`verl.envs.base.Environment`, with a frame of its own for each picture."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.camera = environment.cameras[0]
        self.max_steps, self.instruction = environment.max_steps, environment.instruction

    def reset(self, seed: int) -> None:
        self.environment.reset(seed)
        self.instruction = self.environment.instruction

    def step(self, action: np.ndarray) -> None:
        self.environment.step(action)

    def frame(self) -> np.ndarray:
        raw = np.empty(self.camera.shape, np.uint8)
        self.environment.render(self.camera.name, raw)
        return self.camera.upright(raw)

    def proprio(self) -> np.ndarray:
        return self.environment.proprio()

    def close(self) -> None:
        self.environment.close()


class RobosuitesOwn:
    """``robosuite.make`` with a camera observation: what a worker has that knows nothing of this project."""

    def __init__(self, env: Mapping[str, Any]) -> None:
        if env["name"] != "robosuite":
            raise ConfigError(f"env.name={env['name']}: robosuite's own simulator is measured with env=robosuite only")
        from verl.envs.robosuite_env import TASKS
        from verl.envs.robosuite_import import import_robosuite

        robosuite, controller = import_robosuite()

        task = TASKS[env["tasks"][0]]
        self.instruction, self.max_steps = task.instruction, int(env["max_steps"])
        self.camera = env["cameras"][0]
        self._env = robosuite.make(
            task.scene,
            robots="Panda",
            control_freq=20,
            ignore_done=True,
            has_renderer=False,
            controller_configs=controller,
            has_offscreen_renderer=True,
            use_camera_obs=True,
            camera_names=self.camera,
            camera_heights=env["image_size"],
            camera_widths=env["image_size"],
        )
        self._seen: Mapping[str, np.ndarray] = {}

    def reset(self, seed: int) -> None:
        np.random.seed(seed)  # the only source of randomness that robosuite 1.4 has
        self._seen = self._env.reset()

    def step(self, action: np.ndarray) -> None:
        self._seen = self._env.step(np.clip(action, -1, 1))[0]  # renders, too

    def frame(self) -> np.ndarray:
        return self._seen[f"{self.camera}_image"][::-1]

    def proprio(self) -> np.ndarray:
        seen = self._seen
        turned = axis_angle(seen["robot0_eef_quat"])
        parts = [seen["robot0_eef_pos"], turned, seen["robot0_gripper_qpos"]]
        return np.asarray(np.concatenate(parts), np.float32)

    def close(self) -> None:
        self._env.close()
