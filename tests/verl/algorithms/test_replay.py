"""The replay of done episodes."""

from __future__ import annotations

import dataclasses
import io

import numpy as np

from tests.verl.conftest import ACTION_DIM, CHUNK
from verl.algorithms.replay import ReplayBuffer


def test_only_the_critics_done_lets_an_episode_in(make_episode):
    """A success of the simulator without VLAC's done is not replayed; a done without one is."""
    buffer = ReplayBuffer(8, CHUNK, ACTION_DIM)
    buffer.add([make_episode(1, score=0.4, env_success=True), make_episode(2, score=1.0, env_success=False)])
    assert [e.episode for e in buffer.episodes] == [2]
    buffer.add([make_episode(3, score=0.9, complete=False)])
    assert len(buffer.episodes) == 1


def test_sampled_chunks_are_those_of_the_episodes_with_their_masks(make_episode):
    """Every drawn row is a chunk of a kept episode; tokens behind its end are masked."""
    buffer = ReplayBuffer(8, CHUNK, ACTION_DIM)
    episodes = [make_episode(i, steps=9 + i, score=1.0) for i in range(3)]
    buffer.add(episodes)
    drawn = buffer.sample(50, np.random.default_rng(0))
    chunks = {e.decisions.images[c].tobytes(): (e, c) for e in episodes for c in range(len(e.decisions))}
    for i in range(50):
        episode, place = chunks[drawn.images[i].tobytes()]
        assert drawn.mask[i].sum() == min(CHUNK, episode.end.steps - place * CHUNK) * ACTION_DIM
    assert drawn.imitation.all() and not drawn.advantages.any()


def test_an_empty_buffer_gives_nothing(make_episode):
    """Before the first done there is nothing to imitate; a capacity of 0 keeps none."""
    assert ReplayBuffer(4, CHUNK, ACTION_DIM).sample(8, np.random.default_rng(0)) is None
    off = ReplayBuffer(0, CHUNK, ACTION_DIM)
    off.add([make_episode(0, score=1.0)])
    assert off.sample(8, np.random.default_rng(0)) is None


def test_a_restored_buffer_draws_the_same(make_episode):
    """Through ``np.savez``, episodes of different lengths; a new one then pushes the same old one out."""
    buffer, other = ReplayBuffer(3, CHUNK, ACTION_DIM), ReplayBuffer(3, CHUNK, ACTION_DIM)
    other.restore(buffer.state())
    assert other.sample(5, np.random.default_rng(0)) is None
    buffer.add([make_episode(i, steps=9 * (i + 1), score=1.0, instruction=f"task {i}") for i in range(4)])
    file = io.BytesIO()
    np.savez(file, **buffer.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as state:
        other.restore(dict(state))
    for kept in (buffer, other):
        kept.add([make_episode(9, steps=5, score=1.0)])
    one, two = (kept.sample(40, np.random.default_rng(1)) for kept in (buffer, other))
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name
