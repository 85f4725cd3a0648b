"""Whose log-probabilities the policy gradient starts from: those the rollout sampled with, or the learner's own.

PPO's ratio compares the policy with itself before the update, so it is 1 at first. Where rollout workers compute in
another way than learners do, it is not: some tokens are clipped before any step was made, and the others start from a
ratio that no step has caused. The learner then computes the old log-probabilities again (verl: ``old_log_prob``; Yao et
al. 2025, "Your efficient RL framework secretly brings you off-policy RL training").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist

from verl.algorithms.core_algos import kl_to_reference

# KL(rollout || learner) over which a person is told, nats a token.
# Not recomputed: 0.002 is log-probabilities that differ by 0.063 (root mean square). The lower clip of 0.2 lies three
# of those away, so about one token in a thousand is clipped before the first step.
# Recomputed: 0.01 is what PPO allows a whole update to move the policy (Spinning Up's target_kl), and the rollout's
# policy is that far off before it. The shipped policy in bfloat16 beside float32: 0.0004 to 0.0013.
MOST_MISMATCH = 2e-3
MOST_OFF_POLICY = 1e-2


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the learner computes the old log-probabilities again, and why, for the log."""

    recompute: bool
    reason: str


def choose(
    setting: str,
    rollout_dtype: str,
    rollout_device: str | None,
    learner_dtype: str,
    learner_device: str,
) -> Choice:
    """What ``actor_rollout_ref.actor.recompute_log_prob`` means in a run.

    ``auto`` recomputes unless both sides multiply the same matrices in float32 on the same kind of device: then their
    log-probabilities are equal to rounding (about 1e-6), whatever shares a forward pass.

    Args:
        setting: ``auto``, ``always`` or ``never``.
        rollout_device: ``actor_rollout_ref.rollout.device``; None where it is chosen as the learner's is.
        learner_dtype: what the learner's matrices are multiplied in (``fsdp_config.dtype``).
        learner_device: ``cuda`` or ``cpu``.
    """
    if setting != "auto":
        return Choice(setting == "always", f"recompute_log_prob={setting}")
    device = learner_device if rollout_device is None else torch.device(rollout_device).type
    reasons = []
    if rollout_dtype != learner_dtype:
        reasons.append(f"the rollout computes in {rollout_dtype}, the learner in {learner_dtype}")
    elif learner_dtype != "float32":
        reasons.append(f"in {learner_dtype} the result depends on how many share a forward pass")
    if device != learner_device:
        reasons.append(f"the rollout is on {device}, the learner on {learner_device}")
    if reasons:
        return Choice(True, "; ".join(reasons))
    return Choice(False, f"rollout and learner compute alike, in {learner_dtype} on {learner_device}")


class LogProbDifferences:
    """The rollout's and the learner's log-probabilities of the same tokens, compared in parts and over ranks."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)  # tokens, |difference|, KL, |ratio - 1|
        self._most = torch.zeros(2, dtype=torch.float64, device=device)  # |difference|, |ratio - 1|

    def add(self, learner: torch.Tensor, rollout: torch.Tensor, mask: torch.Tensor) -> None:
        """All (N, L); tokens count where ``mask`` is not 0."""
        counts = mask > 0
        ours, theirs = learner.detach()[counts].double(), rollout[counts].double()
        if not len(ours):
            return
        apart, off = (ours - theirs).abs(), (torch.exp((ours - theirs).clamp(-20, 20)) - 1).abs()
        kl = kl_to_reference(theirs, ours)  # KL(rollout || learner): the rollout sampled the tokens
        self._sums += torch.stack([counts.sum().double(), apart.sum(), kl.sum(), off.sum()])
        self._most = torch.maximum(self._most, torch.stack([apart.max(), off.max()]))

    def reduce(self) -> LogProbDifferences:
        """Adds up what all ranks have seen. Called on all of them alike."""
        dist.all_reduce(self._sums)
        dist.all_reduce(self._most, dist.ReduceOp.MAX)
        return self

    def mismatch(self) -> dict[str, float]:
        """Means are over tokens, in nats."""
        tokens, apart, kl, _ = self._sums.tolist()
        count = max(1.0, tokens)
        return {"mismatch": apart / count, "mismatch_max": float(self._most[0]), "mismatch_kl": kl / count}

    def ratio(self) -> dict[str, float]:
        """How far the ratio is off 1: mean over tokens, and the largest."""
        tokens, off = float(self._sums[0]), float(self._sums[3])
        return {"first_ratio_off": off / max(1.0, tokens), "first_ratio_off_max": float(self._most[1])}


def mismatch_warning(metrics: Mapping[str, float]) -> str | None:
    """What to tell a person of an update's ``metrics``, or None while rollout and learner agree well enough."""
    if metrics["recomputed"]:
        line = MOST_OFF_POLICY
        todo = "the learner recomputes them, but what was sampled still comes from another policy: compare the dtypes"
    else:
        line = MOST_MISMATCH
        todo = "actor_rollout_ref.actor.recompute_log_prob=auto or always lets the learner recompute them"
    if not metrics["mismatch_kl"] > line:
        return None
    return (
        f"rollout and learner disagree about the policy's log-probabilities (KL {metrics['mismatch_kl']:.2g} nats a "
        f"token, over {line:g}; {metrics['mismatch_max']:.2g} at most): {todo}"
    )
