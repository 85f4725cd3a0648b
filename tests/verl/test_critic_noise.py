"""The critic made worse on purpose: by how much it was asked to be, and reproducibly."""

from __future__ import annotations

import numpy as np
import pytest

from verl.critic_noise import VerdictNoise, shuffle_rewards
from verl.errors import ConfigError


def test_noise_is_off_by_default() -> None:
    noise = VerdictNoise()
    assert all(noise.complete(done, episode) is done for episode in range(200) for done in (True, False))


def test_noise_flips_the_share_it_is_told_and_the_same_ones_each_time() -> None:
    noise = VerdictNoise(missed_done=0.3, false_done=0.1, seed=4)
    missed = [not noise.complete(True, episode) for episode in range(4000)]
    false = [noise.complete(False, episode) for episode in range(4000)]
    assert np.mean(missed) == pytest.approx(0.3, abs=0.03) and np.mean(false) == pytest.approx(0.1, abs=0.02)
    assert missed == [not noise.complete(True, episode) for episode in range(4000)]


def test_a_probability_out_of_range_is_named() -> None:
    with pytest.raises(ConfigError, match=r"critic.noise.false_done=1.5: must be from 0 to 1"):
        VerdictNoise(false_done=1.5)


def test_shuffling_keeps_the_rewards_and_takes_them_from_their_episodes(make_episode) -> None:
    episodes = [make_episode(i, score=1.0 if i % 3 == 0 else i / 100) for i in range(30)]
    shuffled = shuffle_rewards(episodes, np.random.default_rng(0))
    before, after = [e.end for e in episodes], [e.end for e in shuffled]
    assert sorted(e.score for e in after) == sorted(e.score for e in before)
    assert [e.score for e in after] != [e.score for e in before]
    assert sum(e.complete for e in after) == 10 and all(e.complete == (e.score == 1.0) for e in after)
    assert all(e.step_rewards.sum() == pytest.approx(e.score) for e in after)
    assert [e.request.episode for e in after] == [e.request.episode for e in before]
