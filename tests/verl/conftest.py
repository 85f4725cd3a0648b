"""What the tests of ``verl`` share."""

from __future__ import annotations

import numpy as np
import pytest

from verl.trajectory import Episode

CHUNK, ACTION_DIM = 8, 7


@pytest.fixture
def make_episode():
    """A function that makes an episode of ``steps`` steps with random contents."""

    def make(number: int = 0, steps: int = 20, score: float = 0.0, **changes) -> Episode:
        rng = np.random.default_rng(number)
        chunks = -(-steps // CHUNK)
        rewards = np.zeros(steps, np.float32)
        if steps:
            rewards[-1] = score
        fields = {
            "episode": number,
            "group": 0,
            "task": 0,
            "seed": 0,
            "instruction": "lift the red cube",
            "training": True,
            "images": rng.integers(0, 255, (chunks, 1, 112, 112, 3), dtype=np.uint8),
            "proprio": rng.normal(size=(chunks, 8)).astype(np.float32),
            "tokens": np.zeros((chunks, CHUNK * ACTION_DIM), np.int64),
            "log_probs": np.zeros((chunks, CHUNK * ACTION_DIM), np.float32),
            "values": None,
            "steps": steps,
            "complete": score == 1.0,
            "score": score,
            "step_rewards": rewards,
            "env_success": False,
            "env_success_step": None,
            "probabilities": np.zeros(steps, np.float32),
            "critic_values": None,
        }
        return Episode(**{**fields, **changes})

    return make
