"""An auxiliary task that teaches the policy to look: where will the hand be at its next turning point, and at the end?

The target is in every demonstration (hindsight), so nothing privileged is used. Without it, the likelihood of actions
alone leaves a small model blind for thousands of steps: the hand goes to the average place. Two kinds of heads, thrown
away after the warm start. One looks at the projected patches as the decoder will, by attention: queries of each
instruction weigh the patches, so that what is learnt of a thing at one place holds for all places. The other is linear,
on the action tokens' hidden states, and makes the decoder read them. The patches know nothing of the instruction: with
the same queries for all of them, two cubes under two instructions taught the middle between the cubes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from verl.models.openvla_oft import OpenVLAOFTPolicy

LOOKS = 4  # queries of an instruction
PLACES = 3  # that a head can hold likely at a time
LEAST_SPREAD = 0.05  # of a place, in standard deviations of the goals
FAR_M = 0.03  # from the next turning point: nearer, the hand's own place says it


class GoalHeads(nn.Module):
    """Predict normalised goals (G numbers) from patches and from hidden states.

    Args:
        goals: (N, G) float32 metres.
        instructions: N texts.
    """

    def __init__(self, policy: OpenVLAOFTPolicy, goals: np.ndarray, instructions: Sequence[str]) -> None:
        super().__init__()
        width = policy.language_model.config.hidden_size
        patches = policy.vision_backbone.num_patches * policy.config.num_images_in_input
        texts, which = np.unique(np.asarray(instructions), return_inverse=True)
        self.which = torch.from_numpy(which.astype(np.int64))
        told = PLACES * (goals.shape[1] + 2)
        self.from_patches = _Looks(len(texts), patches, width, told)
        self.from_hidden = nn.Linear(width, told)
        self.targets = torch.from_numpy(((goals - goals.mean(0)) / (goals.std(0) + 1e-4)).astype(np.float32))

    def patch_loss(self, patches: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """Negative log-likelihood, in nats a number, of the normalised goals from (B, N, D) patches."""
        return self._loss(self.from_patches(patches, self.which[index]), index)

    def hidden_loss(self, hidden: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """The same from (B, A, D) hidden states, averaged over the action tokens."""
        return self._loss(self.from_hidden(hidden.mean(1)), index)

    def _loss(self, told: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """Of a mixture of :data:`PLACES` normal distributions (mixture density network, Bishop 1994)."""
        places = told.float().reshape(len(told), PLACES, -1)
        weights, spread, mean = places[..., 0], places[..., 1], places[..., 2:]
        scale = LEAST_SPREAD + nn.functional.softplus(spread)[..., None].expand_as(mean)
        each = Independent(Normal(mean, scale), 1)
        mixture = MixtureSameFamily(Categorical(logits=weights), each)
        likelihood: torch.Tensor = mixture.log_prob(self.targets[index])  # type: ignore[no-untyped-call]
        loss: torch.Tensor = -likelihood.mean() / mean.shape[-1]
        return loss


class _Looks(nn.Module):
    """Attention of an instruction's queries to the patches, then two layers."""

    def __init__(self, texts: int, patches: int, width: int, goals: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(texts, LOOKS, width) / 10)
        self.places = nn.Parameter(torch.randn(patches, width) / 50)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.mixed, self.told = nn.Linear(LOOKS * width, 128), nn.Linear(128, goals)

    def forward(self, patches: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """(B, N, D) patches under the instructions ``which`` (B,) to (B, G)."""
        weights = torch.softmax(self.queries[which] @ self.key(patches).transpose(1, 2), dim=-1)
        seen = weights @ (self.value(patches) + self.places)
        told: torch.Tensor = self.told(nn.functional.gelu(self.mixed(seen.flatten(1))))
        return told


def far(proprio: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Numbers of the samples whose next turning point is ``FAR_M`` away or more: there is something to look for. All of
    them, where there is none such."""
    found = np.flatnonzero(np.linalg.norm(proprio[:, :3] - goals[:, :3], axis=1) > FAR_M)
    return found if len(found) else np.arange(len(goals))
