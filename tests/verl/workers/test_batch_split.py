"""How an update's samples are split: every sample once, no short tail, the same number of passes on every rank."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verl.workers.test_learner import checkpoint, free_port, options, samples  # noqa: F401 (a fixture)
from verl.samples import REPLAYED
from verl.workers.batch_split import mini_batches, shares, wanted
from verl.workers.learner import Learner


@given(st.integers(0, 500), st.integers(1, 70), st.integers(0, 40))
def test_mini_batches_are_equal_to_one_trajectory_and_near_the_size_asked_for(count, size, replayed):
    """Never under two thirds of it, never over one and a half, unless all trajectories are fewer. Each is whole in one;
    replayed chunks are shared out evenly."""
    chunks = np.random.default_rng(1).integers(1, 9, count)
    trajectory = np.concatenate([np.repeat(np.arange(count), chunks), np.full(replayed, REPLAYED)])
    parts = mini_batches(trajectory, size, np.random.default_rng(0))
    assert sorted(np.concatenate([np.zeros(0, int), *parts]).tolist()) == list(range(len(trajectory)))
    members = [set(trajectory[part]) - {REPLAYED} for part in parts]
    assert sum(map(len, members)) == count
    shared = [np.count_nonzero(trajectory[part] == REPLAYED) for part in parts]
    assert not parts or max(shared) - min(shared) <= 1
    lengths = [len(mine) for mine in members]
    if count >= size:
        assert min(lengths) >= int(2 * size / 3) and max(lengths) <= -(-3 * size // 2)
        assert max(lengths) - min(lengths) <= 1
    if count and count % size == 0:
        assert set(lengths) <= {size}


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
def test_every_rank_makes_as_many_passes_and_every_sample_is_in_one(count, world, micro):
    split = [shares(count, rank, world, micro) for rank in range(world)]
    assert len({len(of_rank) for of_rank in split}) == 1
    assert sorted(np.concatenate([index for of_rank in split for index in of_rank]).tolist()) == list(range(count))
    assert max(len(index) for of_rank in split for index in of_rank) <= micro


@pytest.mark.parametrize(("count", "steps"), [(9, [9]), (11, [11]), (12, [6, 6]), (17, [9, 8]), (3, [3])])
def test_a_learner_makes_no_step_from_a_short_tail(checkpoint, monkeypatch, count, steps):  # noqa: F811
    """Mini-batches of 8: a tail that is under a half of it joins the others."""
    given = options(checkpoint)
    actor = dataclasses.replace(given.actor, ppo_mini_batch_size=8, ppo_epochs=1)
    learner, seen = Learner(dataclasses.replace(given, actor=actor), 0, 1, f"127.0.0.1:{free_port()}"), []
    mini_batch = learner._mini_batch

    def watched(batch, *more):
        seen.append(len(batch))
        return mini_batch(batch, *more)

    monkeypatch.setattr(learner, "_mini_batch", watched)
    metrics = learner.update(samples(checkpoint, count), 0)
    learner.close()
    assert seen == steps and metrics["steps"] == len(steps)


def test_each_rank_wants_what_it_passes_through_its_policy_once_in_order_of_use() -> None:
    """Over one epoch the ranks share the samples out; the order is that of their micro-batches."""
    batches = mini_batches(np.repeat(np.arange(6), 5), 2, np.random.default_rng(1))
    for world in (1, 2, 3):
        ranks = [wanted(batches, rank, world) for rank in range(world)]
        assert sorted(np.concatenate(ranks).tolist()) == list(range(30))
        for rank, mine in enumerate(ranks):
            used = [batch[part] for batch in batches for part in shares(len(batch), rank, world, 2)]
            assert np.array_equal(mine, np.concatenate(used))
    again = wanted([*batches, *batches], 0, 2)
    assert np.array_equal(again, wanted(batches, 0, 2)) and not len(wanted([], 0, 2))
