"""A robosuite simulator of one Panda arm, as robosuite's own tasks and LIBERO's share it.

Liberties taken with robosuite's loop, all for speed:

- soft resets: the model is compiled once, a reset then takes 1 ms instead of 0.9 s. What robosuite forgets to reset is
  reset here, so that an episode depends on its seed alone.
- ``split_step``: the controller runs between ``mj_step1`` and ``mj_step2`` instead of after a whole extra forward pass
  (robosuite 1.5 does the same). Off, every number is robosuite 1.4's own.
- the controller is spelled out in :mod:`verl.envs.arm_controller`, to the same bits.

Observables, which robosuite updates 25 times a step and nobody reads here, are left out; they touch no physics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from verl.envs.arm_controller import ArmController
from verl.envs.base import Camera, axis_angle
from verl.envs.renderer import Renderer

CONTROL_HZ = 20


class ArmWorld:
    """Owns ``env``, a robosuite ``SingleArmEnv`` built without a renderer and with ``hard_reset=False``."""

    def __init__(self, env: Any, cameras: tuple[Camera, ...], *, effects: bool, samples: int, split_step: bool) -> None:
        import mujoco

        self._mj, self.env = mujoco, env
        for observable in env._observables.values():
            observable.set_enabled(False)
        self.model, self.data = env.sim.model._model, env.sim.data._data
        self.robot = env.robots[0]
        self._split = split_step
        self._controller = ArmController(env) if ArmController.fits(env) else None
        self._substeps = int(env.control_timestep / env.model_timestep)
        self._hand = env.sim.model.body_name2id(self.robot.robot_model.eef_name)
        self._fingers = list(self.robot._ref_gripper_joint_pos_indexes)
        self.renderer = Renderer(self.model, self.data, cameras, effects=effects, samples=samples)

    def reset(self, seed: int) -> None:
        """Draws an initial state from ``seed``."""
        with numpy_seed(seed):
            self.env.reset()
        gripper = self.robot.gripper
        gripper.current_action = np.zeros(gripper.dof)  # robosuite integrates it and never resets it

    def step(self, action: np.ndarray) -> None:
        """One control step (1/20 s) under ``action`` (7,), clipped to [-1, 1]."""
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        grip = action[self.robot.controller.control_dim :]
        for substep in range(self._substeps):
            if self._split:
                self._mj.mj_step1(self.model, self.data)
            else:
                self._mj.mj_forward(self.model, self.data)
            if substep == 0 or self._controller is None:
                self._set_goal(action, substep == 0)
            else:
                self._controller.apply(grip)
            if self._split:
                self._mj.mj_step2(self.model, self.data)
            else:
                self._mj.mj_step(self.model, self.data)

    def _set_goal(self, action: np.ndarray, new: bool) -> None:
        """robosuite's own control of one physics step."""
        sim = self.env.sim
        sim.forward = _nothing  # the controller's own forward pass would repeat what has just been computed
        try:
            self.env._pre_action(action, new)
        finally:
            del sim.forward

    def proprio(self) -> np.ndarray:
        """See :meth:`verl.envs.base.Environment.proprio`."""
        w, x, y, z = self.data.xquat[self._hand]
        position = self.data.site_xpos[self.robot.eef_site_id]
        rotation = axis_angle(np.array([x, y, z, w]))
        state: np.ndarray = np.concatenate([position, rotation, self.data.qpos[self._fingers]]).astype(np.float32)
        return state

    def close(self) -> None:
        self.renderer.close()
        self.env.close()


def _nothing() -> None:
    """Stands in for ``MjSim.forward`` while a step runs."""


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """robosuite draws from numpy's global generator: seeds it for a while, then puts the old state back."""
    before: Any = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
