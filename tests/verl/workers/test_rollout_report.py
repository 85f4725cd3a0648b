"""What a rollout worker sends to the driver of an episode."""

from __future__ import annotations

import numpy as np
import pytest

from verl.episode import EpisodeEnd, EpisodeRequest
from verl.workers.rollout import _Growing

CHUNKS, STEPS = 3, 20


@pytest.mark.parametrize("training", [True, False])
def test_the_pictures_of_an_evaluation_stay_with_the_worker(training):
    """Nobody learns from them; everything else is there."""
    pictures = [np.full((1, 8, 8, 3), i, np.uint8) for i in range(CHUNKS)]
    rows = [np.full(4, i, np.float32) for i in range(CHUNKS)]
    end = EpisodeEnd(
        request=EpisodeRequest(0, 0, 0, 0, training),
        instruction="lift",
        steps=STEPS,
        chunks=CHUNKS,
        complete=False,
        score=0.0,
        step_rewards=np.zeros(STEPS, np.float32),
        env_success=False,
        env_success_step=None,
        asked=np.zeros(0, np.int64),
        probabilities=np.zeros(0, np.float32),
        values=None,
        value_steps=(),
        invalid=0,
        latencies_us=np.zeros(0, np.int64),
    )
    decisions = _Growing(pictures, rows, rows, rows).up_to(end)
    assert decisions.images.shape == (CHUNKS if training else 0, 1, 8, 8, 3)
    assert len(decisions) == CHUNKS and np.array_equal(decisions.proprio, np.stack(rows))
