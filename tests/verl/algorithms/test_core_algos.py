"""Advantages and losses against their formulas."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from verl.algorithms import core_algos

floats = st.floats(-3, 3, allow_nan=False, width=32)


def test_grpo_is_centred_and_scaled_in_each_group():
    """Each group has mean 0 and sample deviation 1; groups do not touch each other."""
    scores = np.array([0, 1, 1, 0, 0.2, 0.4, 0.6, 0.8], np.float32)
    groups = np.array([7, 7, 7, 7, 9, 9, 9, 9])
    advantages = core_algos.grpo_advantages(scores, groups)
    for group in (7, 9):
        member = advantages[groups == group]
        assert abs(member.mean()) < 1e-6
        assert abs(member.std(ddof=1) - 1) < 1e-4


def test_a_group_of_equal_scores_has_no_advantage():
    """No spread, no signal: never a division by zero."""
    assert np.allclose(core_algos.grpo_advantages(np.full(8, 0.3, np.float32), np.zeros(8, int)), 0)


def test_batch_advantages_know_no_groups():
    """REINFORCE++: mean 0 and deviation 1 over the batch; an episode that failed with all its group still loses."""
    scores = np.array([0.1, 0.1, 0.1, 1.0, 0.1, 1.0], np.float32)
    advantages = core_algos.batch_advantages(scores)
    assert abs(advantages.mean()) < 1e-6 and abs(advantages.std() - 1) < 1e-4
    assert (advantages[:3] < 0).all() and np.allclose(core_algos.batch_advantages(np.full(4, 0.3)), 0)


def test_filter_takes_the_binary_done_and_the_spread():
    """An all-failed group at 0.3 is out; seven successes and one at 0.5 are in by their spread."""
    rule = core_algos.GroupFilter(0.1, 0.9, min_spread=0.05, value_spread=0.1)
    assert not rule.keep(np.zeros(8, bool), np.full(8, 0.3))
    assert rule.keep(np.array([True] * 7 + [False]), np.array([1.0] * 7 + [0.5]))
    assert not rule.keep(np.ones(8, bool), np.ones(8))
    strict = core_algos.GroupFilter(0.1, 0.9, min_spread=0.05)
    assert not strict.keep(np.zeros(8, bool), np.array([0, 0.9] * 4))
    assert not strict.keep(np.array([True]), np.array([1.0]))


@given(
    hnp.arrays(np.float32, st.integers(1, 12), elements=floats),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_gae_equals_the_sum_of_its_definition(rewards, gamma, lam):
    """Backward recursion equals the sum over (gamma * lambda)^l delta_{t+l}."""
    values = np.linspace(-1, 1, len(rewards), dtype=np.float32)
    advantages, returns = core_algos.gae(rewards, values, gamma, lam)
    following = np.append(values[1:], 0.0)
    deltas = rewards + gamma * following - values
    for t in range(len(rewards)):
        expected = sum((gamma * lam) ** i * deltas[t + i] for i in range(len(rewards) - t))
        assert abs(advantages[t] - expected) < 1e-4
    assert np.allclose(returns, advantages + values, atol=1e-5)


def test_first_step_of_the_policy_loss_is_the_policy_gradient():
    """At ratio 1 the loss is minus the mean advantage, and its gradient minus advantage / tokens."""
    log_probs = torch.zeros(2, 3, requires_grad=True)
    advantages, mask = torch.tensor([[1.0] * 3, [-2.0] * 3]), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    loss, _ = core_algos.policy_loss(log_probs, torch.zeros(2, 3), advantages, mask, 0.2, 0.28)
    loss.backward()
    assert torch.allclose(log_probs.grad, -advantages * mask / 3)


def test_the_upper_clip_is_the_wider_one():
    """A gain is credited up to 1 + clip_high; behind it the gradient is zero."""
    for ratio, expected in ((1.25, 1.25), (1.5, 1.28)):
        log_probs = torch.log(torch.tensor([[ratio]])).requires_grad_()
        loss, _ = core_algos.policy_loss(log_probs, torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1), 0.2, 0.28)
        assert abs(float(loss.detach()) + expected) < 1e-5


@given(hnp.arrays(np.float32, (4, 5), elements=floats), hnp.arrays(np.float32, (4, 5), elements=floats))
def test_kl_to_reference_is_never_negative(policy, reference):
    """k3 is non-negative everywhere and zero where both agree."""
    kl = core_algos.kl_to_reference(torch.from_numpy(policy), torch.from_numpy(reference))
    assert float(kl.min()) >= -1e-6
    assert float(core_algos.kl_to_reference(torch.from_numpy(policy), torch.from_numpy(policy)).abs().max()) == 0


@given(hnp.arrays(np.float32, 9, elements=floats), hnp.arrays(np.float32, 9, elements=st.floats(0, 56, width=32)))
def test_whitened_the_weighted_mean_is_0_and_the_weighted_deviation_1(advantages, weights):
    """Under the weights given; equal advantages, and weights of which none counts, are 0 and no division by zero."""
    whitened = core_algos.whiten(advantages, weights)
    assert np.isfinite(whitened).all()
    counting = advantages[weights > 0.1]
    if weights.sum() == 0:
        assert not whitened.any()
    elif len(counting) > 1 and np.ptp(counting) > 0.1:
        assert abs(np.average(whitened, weights=weights)) < 1e-3
        assert abs(np.average(whitened.astype(np.float64) ** 2, weights=weights) - 1) < 1e-2
    assert np.allclose(core_algos.whiten(np.full(9, 0.5, np.float32), weights), 0, atol=1e-6)
