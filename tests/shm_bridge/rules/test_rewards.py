"""Scores and where they are paid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm_bridge import ConfigError
from shm_bridge.rules import REWARD_MODES, RewardRules, score_episode, value_steps


@given(
    st.sampled_from(REWARD_MODES),
    st.integers(1, 70),
    st.integers(1, 12),
    st.booleans(),
    st.floats(0, 2),
    st.floats(0, 2),
    st.randoms(use_true_random=False),
)
def test_step_rewards_sum_to_the_score(mode, steps, stride, complete, done_weight, value_weight, rng) -> None:
    """In every mode, for every length, what is paid over the steps is the score; no step is outside."""
    scored = value_steps(steps, stride)
    values = np.array([0.0] + [rng.uniform(-50, 150) for _ in scored[1:]], np.float32)
    rules = RewardRules(mode, done_weight, value_weight, stride)
    score, rewards = score_episode(rules, steps, complete, values, scored)
    assert rewards.shape == (steps,)
    assert rewards.sum() == pytest.approx(score, abs=1e-4)
    if complete:
        assert score == done_weight
    else:
        assert 0.0 <= score <= value_weight


def test_done_is_paid_at_the_last_step_and_nothing_before() -> None:
    """Done: 1.0 at the done frame, the value is not needed."""
    rules = RewardRules()
    assert not rules.wants_value(complete=True)
    score, rewards = score_episode(rules, 5, True, None, value_steps(5, 8))
    assert score == 1.0
    assert rewards.tolist() == [0, 0, 0, 0, 1]


def test_without_done_the_last_value_is_the_score() -> None:
    """At max_steps: value / 100, clipped to 0..1, paid at the last step."""
    rules = RewardRules()
    assert rules.wants_value(complete=False)
    score, rewards = score_episode(rules, 10, False, np.array([0, 80, 37.5], np.float32), [0, 8, 10])
    assert score == pytest.approx(0.375)
    assert rewards.argmax() == 9 and np.count_nonzero(rewards) == 1


def test_progress_pays_each_gain_where_it_was_seen() -> None:
    """``progress`` pays differences of the value at the scored frames; losses are negative."""
    rules = RewardRules("progress", value_stride=4)
    score, rewards = score_episode(rules, 10, False, np.array([0, 50, 30, 60], np.float32), [0, 4, 8, 10])
    assert score == pytest.approx(0.6)
    assert rewards[[3, 7, 9]] == pytest.approx([0.5, -0.2, 0.3])


@pytest.mark.parametrize("values", [None, np.array([np.nan], np.float32), np.zeros(0, np.float32)])
def test_a_value_without_a_meaning_is_worth_nothing(values) -> None:
    """No value, or one that is not a number, scores 0: never NaN."""
    score, rewards = score_episode(RewardRules(), 1, False, values, [0] if values is not None and len(values) else [])
    assert score == 0.0 and rewards.tolist() == [0.0]


@pytest.mark.parametrize(
    ("steps", "stride", "expected"), [(16, 8, [0, 8, 16]), (17, 8, [0, 8, 16, 17]), (1, 8, [0, 1])]
)
def test_the_last_frame_is_always_scored(steps: int, stride: int, expected: list[int]) -> None:
    """The reward is the last value, so the last frame is in the list whatever the stride."""
    assert value_steps(steps, stride) == expected


def test_wrong_rules_name_key_and_value() -> None:
    """An unknown mode is refused with what is allowed."""
    with pytest.raises(ConfigError, match=r"reward='best': allowed are done, done_value, progress"):
        RewardRules("best")
