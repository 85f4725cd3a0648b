"""What the tests of ``verl`` share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from verl.episode import Decisions, Episode, EpisodeEnd, EpisodeRequest

CHUNK, ACTION_DIM = 8, 7


@pytest.fixture
def make_episode():
    """A function that makes an episode of ``steps`` steps with random contents.

    Further keywords set fields of the request, the end or the decisions (``values``: of the value head).
    """

    def make(number: int = 0, steps: int = 20, score: float = 0.0, **changes: Any) -> Episode:
        rng = np.random.default_rng(number)
        chunks = -(-steps // CHUNK)
        rewards = np.zeros(steps, np.float32)
        if steps:
            rewards[-1] = score
        request = EpisodeRequest(number, group=0, task=0, seed=0, training=True)
        decisions = Decisions(
            images=rng.integers(0, 255, (chunks, 1, 112, 112, 3), dtype=np.uint8),
            proprio=rng.normal(size=(chunks, 8)).astype(np.float32),
            tokens=np.zeros((chunks, CHUNK * ACTION_DIM), np.int64),
            log_probs=np.zeros((chunks, CHUNK * ACTION_DIM), np.float32),
        )
        end = EpisodeEnd(
            request=changed(request, changes),
            instruction="lift the red cube",
            steps=steps,
            chunks=chunks,
            complete=score == 1.0,
            score=score,
            step_rewards=rewards,
            env_success=False,
            env_success_step=None,
            asked=np.arange(1, steps + 1),
            probabilities=np.zeros(steps, np.float32),
            values=None,
            value_steps=(),
            invalid=0,
            latencies_us=np.zeros(0, np.int64),
        )
        decisions = changed(decisions, changes)
        episode = Episode(changed(end, changes), decisions)
        assert not changes, f"no such fields: {changes}"
        return episode

    return make


def changed(record: Any, changes: dict[str, Any]) -> Any:
    """``record`` with those of ``changes`` that are fields of it; they are taken out."""
    names = {field.name for field in dataclasses.fields(record)} & set(changes)
    return dataclasses.replace(record, **{name: changes.pop(name) for name in names})
