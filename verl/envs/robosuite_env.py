"""robosuite's own tasks behind :class:`verl.envs.base.Environment`: the default, since it needs no download.

Two liberties are taken with robosuite's loop, both for speed, neither of them visible in an episode's meaning:

- soft resets: the model is compiled once a process (its random parts with a fixed seed), a reset then takes 1 ms
  instead of 0.9 s. What robosuite forgets to reset is reset here, so that an episode depends on its seed alone.
- the controller runs between ``mj_step1`` and ``mj_step2`` instead of after a whole extra forward pass.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl.envs.base import Camera, Stored, axis_angle
from verl.envs.renderer import Renderer
from verl.errors import ConfigError, UnknownTaskError

os.environ.setdefault("MUJOCO_GL", "egl")

CONTROL_HZ = 20


@dataclass(frozen=True, slots=True)
class RobosuiteTask:
    """A task of robosuite: its class name, its instruction, and the bodies a scripted expert needs to see."""

    name: str
    instruction: str
    objects: tuple[str, ...]


TASKS = {
    task.name: task
    for task in (
        RobosuiteTask("Lift", "lift the red cube", ("cube",)),
        RobosuiteTask("Stack", "stack the red cube on the green cube", ("cubeA", "cubeB")),
    )
}


@dataclass(frozen=True, slots=True)
class RobosuiteConfig:
    """Keys of ``env`` for ``env.name=robosuite``."""

    tasks: tuple[str, ...] = ("Lift",)
    max_steps: int = 64
    cameras: tuple[str, ...] = ("agentview",)
    image_size: int = 112
    effects: bool = False
    samples: int = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("env.tasks=[]: at least one task is needed")
        for name in self.tasks:
            if name not in TASKS:
                raise UnknownTaskError(f"env.tasks: unknown task {name!r}; allowed are {', '.join(TASKS)}")
        if not 1 <= self.max_steps <= 10_000:
            raise ConfigError(f"env.max_steps={self.max_steps!r}: must be from 1 to 10000")
        if not self.cameras:
            raise ConfigError("env.cameras=[]: at least one camera is needed")
        self.camera_specs()  # checks the size

    def camera_specs(self) -> tuple[Camera, ...]:
        size = self.image_size
        return tuple(Camera(name, size, size, Stored.FLIP_ROWS) for name in self.cameras)

    def step_limit(self) -> int:
        return self.max_steps


class RobosuiteEnv:
    """See :class:`verl.envs.base.Environment`. Simulators are built at a task's first reset and then kept."""

    action_dim = 7

    def __init__(self, config: RobosuiteConfig) -> None:
        self.config = config
        self.cameras = config.camera_specs()
        self.max_steps = config.max_steps
        self.tasks = len(config.tasks)
        self.instruction = TASKS[config.tasks[0]].instruction
        self._worlds: dict[str, _World] = {}
        self._world: _World | None = None

    def reset(self, seed: int, task: int = 0) -> None:
        if not 0 <= task < self.tasks:
            raise UnknownTaskError(f"task {task} of {self.tasks}: allowed are 0 to {self.tasks - 1}")
        name = self.config.tasks[task]
        if name not in self._worlds:
            self._worlds[name] = _World(TASKS[name], self.config, self.cameras)
        self._world = self._worlds[name]
        self.instruction = TASKS[name].instruction
        self._world.reset(seed)

    @property
    def world(self) -> _World:
        if self._world is None:
            raise ConfigError("reset() must come before anything else")
        return self._world

    def step(self, action: np.ndarray) -> bool:
        return self.world.step(np.clip(np.asarray(action, np.float64), -1.0, 1.0))

    def render(self, camera: str, out: np.ndarray) -> None:
        self.world.renderer.render(camera, out)

    def proprio(self) -> np.ndarray:
        return self.world.proprio()

    def objects(self) -> dict[str, np.ndarray]:
        """Positions (3,) in metres of the end effector (``eef``) and of the task's objects. For scripted experts."""
        return self.world.objects()

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()
        self._world = None


class _World:
    """One robosuite simulator with its renderer."""

    def __init__(self, task: RobosuiteTask, config: RobosuiteConfig, cameras: tuple[Camera, ...]) -> None:
        robosuite, load_controller_config = _import_robosuite()
        import mujoco

        self._mj = mujoco
        with _numpy_seed(zlib.crc32(task.name.encode())):  # sizes of objects are drawn when a model is built
            self.env = robosuite.make(
                task.name,
                robots="Panda",
                controller_configs=load_controller_config(default_controller="OSC_POSE"),
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                use_object_obs=False,
                control_freq=CONTROL_HZ,
                horizon=2**31,
                ignore_done=True,
                hard_reset=False,
            )
        for observable in self.env._observables.values():
            observable.set_enabled(False)  # nobody reads them, and they cost a tenth of a step
        self.model, self.data = self.env.sim.model._model, self.env.sim.data._data
        self.robot = self.env.robots[0]
        self._substeps = round(self.env.control_timestep / self.env.model_timestep)
        self._bodies = {name: self.env.sim.model.body_name2id(f"{name}_main") for name in task.objects}
        self._hand = self.env.sim.model.body_name2id(self.robot.robot_model.eef_name)
        self._fingers = list(self.robot._ref_gripper_joint_pos_indexes)
        self.renderer = Renderer(self.model, self.data, cameras, effects=config.effects, samples=config.samples)

    def reset(self, seed: int) -> None:
        with _numpy_seed(seed):
            self.env.reset()
        gripper = self.robot.gripper
        gripper.current_action = np.zeros(gripper.dof)  # robosuite integrates it and never resets it
        self.env.sim.forward()

    def step(self, action: np.ndarray) -> bool:
        sim, mj = self.env.sim, self._mj
        sim.forward = _nothing  # the controller's own forward pass would repeat mj_step1
        try:
            for substep in range(self._substeps):
                mj.mj_step1(self.model, self.data)
                self.env._pre_action(action, substep == 0)
                mj.mj_step2(self.model, self.data)
        finally:
            del sim.forward
        return bool(self.env._check_success())

    def proprio(self) -> np.ndarray:
        w, x, y, z = self.data.xquat[self._hand]
        position = self.data.site_xpos[self.robot.eef_site_id]
        fingers = self.data.qpos[self._fingers]
        rotation = axis_angle(np.array([x, y, z, w]))
        state: np.ndarray = np.concatenate([position, rotation, fingers]).astype(np.float32)
        return state

    def objects(self) -> dict[str, np.ndarray]:
        found = {name: self.data.xpos[body].copy() for name, body in self._bodies.items()}
        found["eef"] = self.data.site_xpos[self.robot.eef_site_id].copy()
        return found

    def close(self) -> None:
        self.renderer.close()
        self.env.close()


def _import_robosuite() -> tuple[Any, Any]:
    """robosuite, without its three warnings about a file of macros that nobody needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        import robosuite
        from robosuite.controllers import load_controller_config
    finally:
        logging.disable(before)
    return robosuite, load_controller_config


def _nothing() -> None:
    """Stands in for ``MjSim.forward`` while a step runs."""


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """robosuite draws from numpy's global generator: seeds it for a while, then puts the old state back."""
    before: Any = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
