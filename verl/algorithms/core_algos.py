"""Advantages and losses: pure functions on arrays and tensors, no model and no environment.

Sources: GRPO, Shao et al. 2024 (DeepSeekMath), eq. 3 with outcome supervision; the asymmetric clip and dynamic
sampling, Yu et al. 2025 (DAPO), sections 3.1 and 3.2; PPO and its clip, Schulman et al. 2017, eq. 7; GAE, Schulman et
al. 2016, eq. 16; the KL estimator k3, Schulman 2020 (http://joschu.net/blog/kl-approx.html).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """Which groups of rollouts carry a signal.

    The bounds are on the mean of the BINARY done, since a continuous score would let an all-failed group of 0.3 pass;
    ``min_spread`` is on the standard deviation of the score, since dividing by a tiny one blows noise up to unit size.
    A group outside the accuracy bounds is kept all the same when its continuous scores spread by ``value_spread`` or
    more (infinite: never).
    """

    lower: float = 0.1
    upper: float = 0.9
    min_spread: float = 0.05
    value_spread: float = float("inf")

    def keep(self, complete: np.ndarray, scores: np.ndarray) -> bool:
        """Whether the group with these (n,) bool dones and (n,) scores is trained on."""
        if len(scores) < 2:
            return False
        spread = float(np.std(scores))
        inside = self.lower <= float(np.mean(complete)) <= self.upper
        return spread >= self.min_spread and (inside or spread >= self.value_spread)


def grpo_advantages(scores: np.ndarray, groups: np.ndarray, normalise: bool = True) -> np.ndarray:
    """(score - mean of its group) / (standard deviation of its group + 1e-6), one number an episode.

    Args:
        scores: (n,) float.
        groups: (n,) int, equal for rollouts of one initial state.
        normalise: divide by the standard deviation (GRPO) or not (Dr. GRPO).
    """
    advantages = np.zeros(len(scores), np.float32)
    for group in np.unique(groups):
        member = groups == group
        centred = scores[member] - scores[member].mean()
        # verl takes the sample standard deviation (n - 1)
        scale = scores[member].std(ddof=1) + EPSILON if normalise and member.sum() > 1 else 1.0
        advantages[member] = centred / scale
    return advantages


def normalise_by_task(advantages: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Each task's advantages divided by their root mean square (+ 1e-6), so that none drowns another; float32.

    Whatever a task's rewards are like, its part of the batch has mean square 1, as with PopArt's statistics of each
    task (Hessel et al. 2019, arXiv:1809.04474), here of the batch alone. The group's mean stays the baseline:
    group mean, wider spread (Liu et al. 2025, arXiv:2508.08221). A task whose advantages are all 0 keeps them.

    Args:
        advantages: (n,) float, centred already.
        tasks: (n,) int.
    """
    _, at = np.unique(tasks, return_inverse=True)
    squares = np.bincount(at, weights=advantages.astype(np.float64) ** 2) / np.bincount(at)
    return np.asarray(advantages / (np.sqrt(squares[at]) + EPSILON), np.float32)


def batch_advantages(scores: np.ndarray) -> np.ndarray:
    """(score - mean of the batch) / (standard deviation of the batch + 1e-6), one number an episode.

    REINFORCE++ (Hu 2025, eq. 5) with one reward an episode. Groups play no part: one in which all fail says so, too.
    """
    centred = scores - scores.mean()
    advantages: np.ndarray = (centred / (scores.std() + EPSILON)).astype(np.float32)
    return advantages


def gae(
    rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float, bootstrap: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantage estimation over one episode.

    Args:
        rewards: (T,) reward of each decision.
        values: (T,) predicted value before each decision.
        bootstrap: value after the last decision: 0 where the episode ended by itself.

    Returns:
        (T,) advantages and (T,) returns (advantages + values), float32.
    """
    advantages = np.zeros(len(rewards), np.float32)
    following, running = bootstrap, 0.0
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + gamma * following - values[t]
        running = delta + gamma * lam * running
        advantages[t] = running
        following = values[t]
    return advantages, (advantages + values).astype(np.float32)


def whiten(advantages: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(advantage - weighted mean) / (weighted standard deviation + 1e-6), float32.

    Args:
        advantages: (N,) float.
        weights: (N,) float, what each counts for in the loss. Weighted otherwise, the policy would be pushed on the
            whole away from what it did, or towards it. With all 0 nothing counts, and everything is 0.
    """
    total = weights.sum(dtype=np.float64)
    if total <= 0:
        return np.zeros(len(advantages), np.float32)
    share = weights / total
    centred = advantages - (share * advantages).sum()
    deviation = np.sqrt((share * centred**2).sum())
    whitened: np.ndarray = (centred / (deviation + EPSILON)).astype(np.float32)
    return whitened


def masked_mean(x: torch.Tensor, mask: torch.Tensor, count: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of ``x`` where ``mask`` is 1. ``count`` replaces the divisor when a batch is fed in parts."""
    return (x * mask).sum() / (mask.sum() if count is None else count).clamp(min=1)


def policy_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    clip_low: float,
    clip_high: float,
    count: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The clipped surrogate with separate lower and upper clip, averaged over the tokens that count.

    All tensors are (N, L). ``count``: number of counting tokens in the whole mini-batch (see :func:`masked_mean`).

    Returns:
        The loss, and ``clip_fraction`` and ``kl`` (k1 estimate of KL(old || new)) as tensors.
    """
    difference = log_probs - old_log_probs
    ratio = torch.exp(difference.clamp(-20, 20))
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
    clipped = (ratio * advantages > surrogate).float()
    return -masked_mean(surrogate, mask, count), {
        "clip_fraction": masked_mean(clipped, mask, count).detach(),
        "kl": masked_mean(-difference, mask, count).detach(),
    }


def kl_to_reference(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Per-token k3 estimate of KL(policy || reference); never negative."""
    difference = (reference - log_probs).clamp(-20, 20)
    return torch.exp(difference) - difference - 1


def value_loss(values: torch.Tensor, returns: torch.Tensor) -> torch.Tensor:
    """Half the mean squared error of the value head; both (N,)."""
    return 0.5 * ((values - returns) ** 2).mean()
