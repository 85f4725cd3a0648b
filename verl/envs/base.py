"""What every simulated environment offers, and the camera frames it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shm_bridge import Orientation
from verl.errors import ConfigError

PROPRIO_DIM = 8
SMALLEST, LARGEST = 16, 4096  # a picture's sides, in pixels
MOST_SAMPLES = 64  # of anti-aliasing, a pixel


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of an environment: its name in the simulator, its size, and how the renderer leaves the rows."""

    name: str
    height: int
    width: int
    orientation: Orientation = Orientation.FLIP_ROWS

    def __post_init__(self) -> None:
        for key, value in (("height", self.height), ("width", self.width)):
            if not SMALLEST <= value <= LARGEST:
                raise ConfigError(f"camera {self.name!r}: {key}={value!r}; must be from {SMALLEST} to {LARGEST} pixels")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, 3)

    def upright(self, raw: np.ndarray) -> np.ndarray:
        """A view on ``raw`` (..., H, W, 3) the right way up. No copy."""
        if self.orientation is Orientation.FLIP_ROWS:
            return raw[..., ::-1, :, :]
        if self.orientation is Orientation.ROTATE_180:
            return raw[..., ::-1, ::-1, :]
        return raw


class Environment(Protocol):
    """One simulated world in one process. An episode depends on its initial state, its task and its actions alone.

    Attributes:
        instruction: what the policy and the critic are told, of the task last reset to.
        max_steps: environment steps after which an episode ends.
        action_dim: 7: six of the arm (translation, rotation), one of the gripper (-1 open, 1 closed).
        cameras: what :meth:`render` knows, the critic's camera first.
        tasks: how many tasks :meth:`reset` can choose from.
        evaluation_states: may be left out; how many initial states a task has for evaluation, seed modulo that number,
            where not each seed is one.
    """

    instruction: str
    max_steps: int
    action_dim: int
    cameras: tuple[Camera, ...]
    tasks: int

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        """Starts an episode of ``task`` in the initial state that ``seed`` names.

        Args:
            seed: from 0 to 2**32 - 1. Evaluation's and training's never meet (:mod:`verl.envs.seed_split`): an
                environment that takes each seed for a state of its own may leave ``training`` out of the signature.
            training: whether the state must be one that evaluation never uses, or (False) one that training never uses.
        """

    def step(self, action: np.ndarray) -> bool:
        """Advances one control step.

        Args:
            action: (7,) float32 in [-1, 1]; values outside are clipped.

        Returns:
            The simulator's success. For evaluation and the audit only: it must reach no reward.
        """

    def render(self, camera: str, out: np.ndarray) -> None:
        """Draws into ``out``, (H, W, 3) uint8, C-contiguous, rows as the renderer has them (``Camera.orientation``)."""

    def proprio(self) -> np.ndarray:
        """(8,) float32: end effector position (3, metres), axis-angle (3, radians), gripper joints (2, metres)."""

    def close(self) -> None:
        """Frees the simulator and the renderer."""


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """(3,) axis times angle of a unit quaternion (x, y, z, w), as in LIBERO's observations."""
    w = float(np.clip(quaternion[3], -1.0, 1.0))
    length = np.sqrt(1.0 - w * w)
    if np.isclose(length, 0.0):
        return np.zeros(3)
    rotation: np.ndarray = np.asarray(quaternion[:3]) * (2.0 * np.arccos(w) / length)
    return rotation
