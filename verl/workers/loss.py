"""What the learner descends: the terms of the loss on one micro-batch, and their metrics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from verl.algorithms import core_algos
from verl.algorithms.batch import token_weights
from verl.config import ActorConfig
from verl.models.openvla_oft import Evaluation, OpenVLAOFTPolicy
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
        return np.asarray(part.images), part.instructions, part.proprio, self._here(part.tokens)

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
        inputs, old = self.inputs(part), self._here(part.old_log_probs)
        imitated = self._here(part.imitation)[:, None]
        mask = self._here(part.mask) * (1 - imitated)
        output = self.policy.evaluate(*inputs, temperature=self.temperature)
        if first is not None:
            first.add(output.log_probs, old, mask)
        clip = self.actor.clip_ratio_low, self.actor.clip_ratio_high
        advantages = self._here(part.advantages)
        loss, metrics = core_algos.policy_loss(output.log_probs, old, advantages, mask, *clip, self._one)
        metrics["policy_loss"] = loss.detach()
        for name, coefficient, term in self._terms(part, output, mask, imitated, weight):
            metrics[name] = term.detach()
            loss = loss + coefficient * term
        return loss, metrics

    def _terms(
        self,
        part: Samples,
        output: Evaluation,
        mask: torch.Tensor,
        imitated: torch.Tensor,
        weight: float,
    ) -> Iterator[tuple[str, float, torch.Tensor]]:
        """What is added to the surrogate: name, coefficient, value."""
        actor = self.actor
        yield "entropy", -actor.entropy_coeff, core_algos.masked_mean(output.entropy, mask, self._one)
        if actor.imitation_coeff > 0:
            told = self._here(part.mask) * imitated
            yield "imitation_nll", actor.imitation_coeff, -core_algos.masked_mean(output.log_probs, told, self._one)
        if self.reference is not None:
            kl = self._kl(self.reference, self.inputs(part), output.log_probs, mask, self._one)
            yield "kl_to_reference", self.kl_coef, kl
        if output.values is not None:
            own = 1 - imitated[:, 0]
            value = core_algos.value_loss(output.values * own, self._here(part.returns) * own) * weight
            yield "value_loss", actor.value_coeff, value

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
