"""The spelled-out controller is robosuite's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from verl.envs.arm_controller import ArmController
from verl.envs.robosuite_env import RobosuiteConfig, RobosuiteEnv


@pytest.mark.parametrize("split_step", [True, False])
def test_every_torque_is_robosuites_own(split_step: bool) -> None:
    """Over 30 random control steps, gripper included, states and controls are equal to the last bit."""
    env = RobosuiteEnv(RobosuiteConfig())
    try:
        ends = []
        for ours in (True, False):
            env.reset(3)
            world = env.world
            world._split = split_step
            world._controller = ArmController(world.env) if ours else None
            rng = np.random.default_rng(0)
            for _ in range(30):
                env.step(rng.uniform(-1, 1, 7) * np.array([1, 1, 1, 0.3, 0.3, 0.3, 1]))
            ends.append((world.data.qpos.copy(), world.data.qvel.copy(), world.data.ctrl.copy()))
        for a, b in zip(*ends, strict=True):
            assert np.array_equal(a, b)
    finally:
        env.close()


def test_another_controller_is_left_to_robosuite() -> None:
    """A controller with other settings is not the one spelled out, and is recognised as such."""
    env = RobosuiteEnv(RobosuiteConfig())
    try:
        env.reset(0)
        assert ArmController.fits(env.world.env)
        env.world.env.robots[0].controller.uncoupling = False
        assert not ArmController.fits(env.world.env)
    finally:
        env.close()
