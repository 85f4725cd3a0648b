"""An environment without physics whose pictures differ from step to step and from seed to seed, as a critic needs."""

from __future__ import annotations

import numpy as np

from tests.verl.envs.fake_env import SIZE, FakeEnv


class SeededEnv(FakeEnv):
    """Coarse random squares of ``seed`` and step."""

    def render(self, camera: str, out: np.ndarray) -> None:
        rng = np.random.default_rng((self.seed, self.steps))
        squares = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(SIZE // 4, 0).repeat(SIZE // 4, 1)
        out[:] = squares[: out.shape[0], : out.shape[1]]
