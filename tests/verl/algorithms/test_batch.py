"""From episodes to samples: masks, where the reward sits, and what must not reach the learner."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verl.conftest import ACTION_DIM, CHUNK
from verl.algorithms.batch import build_samples, token_weights, usable_groups
from verl.config import AlgorithmConfig, KlConfig
from verl.episode import Episode
from verl.samples import Samples, token_mask

MODES = ("seq-mean-token-mean", "token-mean")


def algorithm(estimator: str = "grpo", mode: str = "token-mean") -> AlgorithmConfig:
    return AlgorithmConfig(estimator, 1.0, 0.95, True, mode, KlConfig(0.0))


@given(st.integers(0, 64))
def test_the_mask_ends_behind_the_last_executed_action(steps):
    """Exactly ``steps * 7`` tokens count; the last at ``steps * 7 - 1``; none at 0 steps."""
    chunks = max(1, -(-steps // CHUNK))
    mask = token_mask(steps, chunks, CHUNK, ACTION_DIM).ravel()
    assert mask.sum() == steps * ACTION_DIM
    assert mask[: steps * ACTION_DIM].all() and not mask[steps * ACTION_DIM :].any()


def lie(episode: Episode) -> Episode:
    """The same with a simulator that says the contrary."""
    end = dataclasses.replace(episode.end, env_success=not episode.end.env_success, env_success_step=1)
    return Episode(end, episode.decisions)


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gae"])
def test_the_simulators_success_changes_no_sample(make_episode, estimator):
    """Samples of honest and of lying simulators are equal, byte for byte; Samples has no field for it."""
    truth = [make_episode(i, steps=8 + i, score=i % 2 * 1.0) for i in range(8)]
    lies = [lie(e) for e in truth]
    first = build_samples(truth, algorithm(estimator), CHUNK, ACTION_DIM)
    second = build_samples(lies, algorithm(estimator), CHUNK, ACTION_DIM)
    for field in dataclasses.fields(Samples):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name)), field.name
        assert "success" not in field.name


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gae"])
def test_nothing_behind_the_end_has_an_advantage(make_episode, estimator):
    """Tokens of actions that were not executed carry neither mask nor advantage."""
    samples = build_samples(
        [make_episode(i, steps=s, score=float(i % 2)) for i, s in enumerate((3, 8, 9, 20))],
        algorithm(estimator),
        CHUNK,
        ACTION_DIM,
    )
    assert samples.mask.sum() == (3 + 8 + 9 + 20) * ACTION_DIM
    assert not samples.advantages[samples.mask == 0].any()
    assert len(samples) == 1 + 1 + 2 + 3 == len(samples.instructions)


def test_every_episode_weighs_the_same_whatever_its_length(make_episode):
    """A success of 8 steps and a failure of 64: weighted advantages cancel by episode, by token they do not."""
    episodes = [make_episode(0, steps=8, score=1.0), make_episode(1, steps=64, score=0.0)]
    samples = build_samples(episodes, algorithm(), CHUNK, ACTION_DIM)
    assert samples.trajectory.tolist() == [0] + [1] * 8
    weights = {mode: token_weights(samples.mask, samples.trajectory, mode) for mode in MODES}
    assert all(of_mode.sum() == pytest.approx(1) for of_mode in weights.values())
    equal, by_token = (weights[mode] * samples.advantages for mode in MODES)
    assert equal[:1].sum() == pytest.approx(-equal[1:].sum()) and equal[0, 0] > 0
    assert by_token.sum() < 0 and by_token[0, 0] == pytest.approx(-by_token[1, 0])


def test_gae_credits_each_chunk_with_its_own_steps(make_episode):
    """With gamma = lambda = 1 and no values, a chunk's return is the sum of rewards from its first step on."""
    rewards = np.arange(20, dtype=np.float32)
    samples = build_samples(
        [make_episode(0, steps=20, step_rewards=rewards)],
        AlgorithmConfig("gae", 1.0, 1.0, True, "token-mean", KlConfig(0.0)),
        CHUNK,
        ACTION_DIM,
    )
    assert np.allclose(samples.returns, [rewards.sum(), rewards[8:].sum(), rewards[16:].sum()])


def test_a_group_counts_without_what_was_dropped(make_episode):
    """Smaller, while two are left to compare; one alone is no group, but where groups are of one."""
    episodes = [make_episode(i, group=i // 4) for i in (0, 1, 2, 3, 4, 6, 9)]
    assert [len(g) for g in usable_groups(episodes, 4)] == [4, 2]
    assert [len(g) for g in usable_groups(episodes, 1)] == [4, 2, 1]


def test_a_digest_tells_two_inputs_of_the_learner_apart(make_episode):
    """Equal for the same samples made twice; different for another bit, type, shape or word."""
    episodes = [make_episode(i, steps=8 + i, score=i % 2 * 1.0) for i in range(4)]
    samples, again = (build_samples(episodes, algorithm(), CHUNK, ACTION_DIM) for _ in range(2))
    assert samples.digest() == again.digest() and len(samples.digest()) == 32
    images = np.array(samples.images)
    images.flat[-1] ^= 1
    words = [*samples.instructions[:-1], samples.instructions[-1] + " "]
    changed = [
        {"images": images},
        {"instructions": words},
        {"mask": samples.mask.astype(np.float64)},
        {"advantages": -samples.advantages},
        {"tokens": samples.tokens.reshape(len(samples), -1, 1)},
    ]
    digests = {dataclasses.replace(samples, **change).digest() for change in changed} | {samples.digest()}
    assert len(digests) == len(changed) + 1


@pytest.mark.parametrize("mode", MODES)
def test_gae_is_whitened_by_what_counts_in_the_loss(make_episode, mode):
    """Short last chunks weigh by their tokens: under the loss's mean the advantages have mean 0 and deviation 1."""
    lengths = (3, 9, 17, 40, 64)
    episodes = [
        make_episode(i, steps=s, score=float(i % 2), values=np.full(-(-s // CHUNK), 0.1 * i, np.float32))
        for i, s in enumerate(lengths)
    ]
    samples = build_samples(episodes, algorithm("gae", mode), CHUNK, ACTION_DIM)
    equal = mode == "seq-mean-token-mean"
    weight = [np.mean(lengths) / e.end.steps if equal else 1.0 for e in episodes for _ in e.decisions.tokens]
    weights = samples.mask * np.array(weight)[:, None]
    assert np.average(samples.advantages, weights=weights) == pytest.approx(0, abs=1e-5)
    assert np.average(samples.advantages**2, weights=weights) == pytest.approx(1, abs=1e-4)
