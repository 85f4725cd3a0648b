"""robosuite's OSC_POSE controller for the 24 of 25 physics steps in which its goal does not change.

robosuite's own runs through name look-ups, property objects and buffers at every physics step, which takes three times
as long as the physics. Here the same operations are applied to the same arrays in the same order, so the torques are
the same to the bit (a test holds it); the first physics step of a control step, which sets the goal, stays
robosuite's.

    torque = J^T [Lambda_pos f_pos, Lambda_ori f_ori] + gravity + nullspace           (Khatib 1987, both parts apart)
"""

from __future__ import annotations

from typing import Any

import numpy as np


class ArmController:
    """Torques of one arm and motion of its gripper, written into ``data.ctrl``."""

    def __init__(self, env: Any) -> None:
        import mujoco
        from robosuite.utils import control_utils

        self._mj, self._math = mujoco, control_utils
        self._robot = robot = env.robots[0]
        self._model, self._data = env.sim.model._model, env.sim.data._data
        ranges = self._model.actuator_ctrlrange
        self._arm = list(robot._ref_joint_actuator_indexes)
        self._low, self._high = ranges[self._arm, 0].copy(), ranges[self._arm, 1].copy()
        self._gripper = [env.sim.model.actuator_name2id(name) for name in robot.gripper.actuators]
        grip = ranges[self._gripper]
        self._grip_bias, self._grip_weight = 0.5 * (grip[:, 1] + grip[:, 0]), 0.5 * (grip[:, 1] - grip[:, 0])
        self._site = env.sim.model.site_name2id(robot.controller.eef_name)
        self._grip_speed = np.array([-1.0, 1.0]) * robot.gripper.speed
        data = self._data  # the arrays below are MuJoCo's own memory: looked up once, they stay true
        self._position, self._rotation = data.site_xpos[self._site], data.site_xmat[self._site].reshape(3, 3)
        self._qpos, self._qvel, self._bias, self._ctrl = data.qpos, data.qvel, data.qfrc_bias, data.ctrl
        self._mass = np.zeros((self._model.nv, self._model.nv))
        self._jacobian = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        self._j_full = np.zeros((6, len(self._arm)), order="F")  # as vstack leaves it: the order of sums hangs on it

    @staticmethod
    def fits(env: Any) -> bool:
        """Whether the arm's controller is the plain one that is spelled out here."""
        controller = env.robots[0].controller
        plain = controller.name == "OSC_POSE" and controller.impedance_mode == "fixed" and controller.uncoupling
        return plain and controller.interpolator_pos is None and controller.interpolator_ori is None

    def apply(self, grip: np.ndarray) -> None:
        """One physics step's control towards the controller's goal; ``grip`` (1,) is the gripper's action."""
        gripper, ctrl = self._robot.gripper, self._ctrl
        torques = self._torques(self._robot.controller)  # the controller is made anew at every reset
        moved = np.minimum(np.maximum(gripper.current_action + self._grip_speed * np.sign(grip), -1.0), 1.0)
        gripper.current_action = moved
        ctrl[self._gripper] = self._grip_bias + self._grip_weight * moved
        ctrl[self._arm] = np.minimum(np.maximum(torques, self._low), self._high)

    def _torques(self, controller: Any) -> np.ndarray:
        joints, velocity, kp, kd = controller.qvel_index, self._qvel, controller.kp, controller.kd
        linear, angular = self._jacobian
        self._mj.mj_jacSite(self._model, self._data, linear, angular, self._site)
        self._mj.mj_fullM(self._model, self._mass, self._data.qM)
        j_full, mass = self._j_full, self._mass[joints, :][:, joints]
        j_full[:3], j_full[3:] = j_linear, j_angular = linear[:, joints], angular[:, joints]
        turn = self._math.orientation_error(controller.goal_ori, self._rotation)
        force = (controller.goal_pos - self._position) * kp[:3] + -np.dot(linear, velocity) * kd[:3]
        torque = turn * kp[3:6] + -np.dot(angular, velocity) * kd[3:6]
        _, lambda_linear, lambda_angular, nullspace = self._math.opspace_matrices(mass, j_full, j_linear, j_angular)
        wrench = np.concatenate([np.dot(lambda_linear, force), np.dot(lambda_angular, torque)])
        torques: np.ndarray = np.dot(j_full.T, wrench) + self._bias[joints]
        torques += self._math.nullspace_torques(
            mass, nullspace, controller.initial_joint, self._qpos[controller.qpos_index], velocity[joints]
        )
        return torques
