"""An environment that tells, in the place of a renderer's name, which of EGL's devices its process was to draw on."""

from __future__ import annotations

import os

import numpy as np

from tests.verl.envs.fake_env import FakeEnv
from verl.envs import egl


class DrawnEnv(FakeEnv):
    """See the module's head."""

    def render(self, camera: str, out: np.ndarray) -> None:
        super().render(camera, out)
        egl._drawn[:] = [f"device {os.environ.get(egl.DEVICE)}"]
