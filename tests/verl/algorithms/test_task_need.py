"""Tasks by need: shares, turns, and advantages of one size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verl.conftest import ACTION_DIM, CHUNK
from verl.algorithms.batch import build_samples
from verl.algorithms.core_algos import normalise_by_task
from verl.algorithms.task_need import SAMPLINGS, success_rate, take_turn, task_shares
from verl.config import AlgorithmConfig, KlConfig

RATES = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6).map(np.array)


def test_a_task_that_was_never_played_counts_as_half():
    assert success_rate([]) == 0.5
    assert success_rate([True, True]) == 0.75 and success_rate([False] * 8) == pytest.approx(0.1)


@given(RATES, st.sampled_from(SAMPLINGS), st.floats(0, 1))
def test_shares_are_a_distribution_with_a_floor(rates, sampling, floor):
    shares = task_shares(rates, sampling, floor)
    assert shares.sum() == pytest.approx(1) and (shares >= floor / len(rates) - 1e-12).all()


def test_who_fails_more_is_due_more_and_what_is_hopeless_has_nothing_to_learn():
    rates = np.array([0.9, 0.5, 0.02])
    failure, learnable = (task_shares(rates, kind, 0.0) for kind in ("failure", "learnability"))
    assert failure == pytest.approx(np.array([0.1, 0.5, 0.98]) / 1.58)
    assert np.argmax(learnable) == 1 and learnable[2] < learnable[0]
    assert task_shares(rates, "even", 0.0) == pytest.approx(1 / 3)


@given(RATES, st.integers(1, 60))
def test_turns_follow_the_shares(rates, turns):
    """After any number of turns a task was taken that often times its share, to within the number of tasks."""
    shares = task_shares(rates, "failure", 0.1)
    due, taken = np.zeros(len(rates)), np.zeros(len(rates))
    for _ in range(turns):
        task, due = take_turn(due, shares, np.arange(len(rates)))
        taken[task] += 1
    assert np.abs(taken - turns * shares).max() <= len(rates)


def test_equal_shares_are_turns():
    due, seen = np.zeros(3), []
    for _ in range(9):
        task, due = take_turn(due, np.full(3, 1 / 3), np.array([2, 0, 1]))
        seen.append(task)
    assert seen == [2, 0, 1] * 3


@given(st.floats(0.01, 100))
def test_a_tasks_advantages_have_one_size_whatever_its_rewards(scale):
    advantages, tasks = np.array([1.0, -1, 0, 2, -2, 0, 0]), np.array([0, 0, 0, 1, 1, 1, 7])
    sized = normalise_by_task(np.where(tasks == 1, scale, 1.0) * advantages, tasks)
    for task in (0, 1):
        assert np.mean(sized[tasks == task] ** 2) == pytest.approx(1, rel=1e-3)
    assert sized[-1] == 0 and (np.sign(sized) == np.sign(advantages)).all()


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus", "gae"])
def test_each_task_moves_the_policy_alike(make_episode, estimator):
    """Task 1's scores differ ten times less: as they are it hardly counts; by task it counts as much as task 0."""
    episodes = [
        make_episode(i, steps=8, score=(1.0 if i % 2 else 0.0) * (0.1 if i > 3 else 1.0), task=int(i > 3), group=i // 4)
        for i in range(8)
    ]
    plain = AlgorithmConfig(estimator, 1.0, 0.95, False, "token-mean", KlConfig(0.0))

    def sizes(config: AlgorithmConfig) -> np.ndarray:
        rows = build_samples(episodes, config, CHUNK, ACTION_DIM).advantages.reshape(2, -1)
        return np.sqrt((rows**2).mean(axis=1))

    before, after = sizes(plain), sizes(dataclasses.replace(plain, norm_adv_by_task=True))
    assert before[1] < 0.7 * before[0]
    assert after == pytest.approx([1, 1], rel=1e-3)
