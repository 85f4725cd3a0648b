"""What the learner descends: the terms of the loss on one micro-batch, and their metrics."""

from __future__ import annotations

import numpy as np
import torch

from verl.algorithms import core_algos
from verl.algorithms.batch import token_weights
from verl.config import ActorConfig
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.samples import Samples
from verl.workers.old_log_probs import LogProbDifferences

Inputs = tuple[np.ndarray, list[str], np.ndarray, torch.Tensor]


def loss_weights(batch: Samples, mode: str) -> np.ndarray:
    """(N, L) float32, what each token of a mini-batch counts for: in the policy gradient (``algorithm.loss_agg_mode``),
    or where it is replayed in the imitation (a mean over tokens). Each of the two adds up to 1."""
    replayed = batch.mask * batch.imitation[:, None]
    imitation = token_weights(replayed, batch.trajectory, "token-mean")
    weights: np.ndarray = token_weights(batch.mask - replayed, batch.trajectory, mode) + imitation
    return weights


class Loss:
    """Clipped surrogate - entropy + imitation + KL to the reference + value, as configured.

    Args:
        reference: the policy that the KL is to; None without that term.
    """

    def __init__(
        self,
        policy: OpenVLAOFTPolicy,
        reference: OpenVLAOFTPolicy | None,
        actor: ActorConfig,
        kl_coef: float,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.policy, self.reference, self.actor = policy, reference, actor
        self.kl_coef, self.temperature, self.device = kl_coef, temperature, device
        self._one = torch.ones((), device=device)  # what the weights of a mini-batch add up to

    def inputs(self, part: Samples) -> Inputs:
        """What the policy is asked about ``part``."""
        return part.images, part.instructions, part.proprio, self._here(part.tokens)

    def _here(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def __call__(
        self, part: Samples, weight: float, first: LogProbDifferences | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of ``part``, a share ``weight`` of its mini-batch, and each term.

        Args:
            part: its ``mask`` holds :func:`loss_weights`.
            first: told of the log-probabilities before and now, in the passes before the first step.
        """
        actor, count, inputs = self.actor, self._one, self.inputs(part)
        imitated = self._here(part.imitation)[:, None]
        mask = self._here(part.mask) * (1 - imitated)
        output = self.policy.evaluate(*inputs, temperature=self.temperature)
        old = self._here(part.old_log_probs)
        if first is not None:
            first.add(output.log_probs, old, mask)
        loss, metrics = core_algos.policy_loss(
            output.log_probs,
            old,
            self._here(part.advantages),
            mask,
            actor.clip_ratio_low,
            actor.clip_ratio_high,
            count,
        )
        metrics["policy_loss"] = loss.detach()
        entropy = core_algos.masked_mean(output.entropy, mask, count)
        metrics["entropy"] = entropy.detach()
        loss = loss - actor.entropy_coeff * entropy
        if actor.imitation_coeff > 0:
            told = self._here(part.mask) * imitated
            imitation = -core_algos.masked_mean(output.log_probs, told, count)
            metrics["imitation_nll"] = imitation.detach()
            loss = loss + actor.imitation_coeff * imitation
        if self.reference is not None:
            kl = self._kl(self.reference, inputs, output.log_probs, mask, count)
            metrics["kl_to_reference"] = kl.detach()
            loss = loss + self.kl_coef * kl
        if output.values is not None:
            own = 1 - imitated[:, 0]
            value = core_algos.value_loss(output.values * own, self._here(part.returns) * own) * weight
            metrics["value_loss"] = value.detach()
            loss = loss + actor.value_coeff * value
        return loss, metrics

    def _kl(
        self,
        reference: OpenVLAOFTPolicy,
        inputs: Inputs,
        log_probs: torch.Tensor,
        mask: torch.Tensor,
        count: torch.Tensor,
    ) -> torch.Tensor:
        with torch.no_grad():
            theirs = reference.evaluate(*inputs, temperature=self.temperature).log_probs
        return core_algos.masked_mean(core_algos.kl_to_reference(log_probs, theirs), mask, count)
