"""An auxiliary task that teaches the policy to look: where will the hand be when the gripper first closes, and last?

The target is in every demonstration (hindsight), so nothing privileged is used. Without it, the likelihood of actions
alone leaves a small model blind for thousands of steps: the hand goes to the average place. Two kinds of linear heads,
thrown away after the warm start: one on all projected patches for each instruction, which fills the patches with local
positions within a hundred steps, and one on the action tokens' hidden states, which makes the decoder read them. The
patches know nothing of the instruction: with one head for all of them, two cubes under two instructions taught the
middle between the cubes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from verl.models.openvla_oft import OpenVLAOFTPolicy


class GoalHeads(nn.Module):
    """Predict normalised goals (G numbers) from patches and from hidden states.

    Args:
        goals: (N, G) float32 metres, NaN where there is none.
        instructions: N texts.
    """

    def __init__(self, policy: OpenVLAOFTPolicy, goals: np.ndarray, instructions: Sequence[str]) -> None:
        super().__init__()
        width = policy.language_model.config.hidden_size
        patches = policy.vision_backbone.num_patches * policy.config.num_images_in_input
        texts, which = np.unique(np.asarray(instructions), return_inverse=True)
        self.which = torch.from_numpy(which.astype(np.int64))
        self.size = goals.shape[1]
        self.from_patches = nn.Linear(patches * width, self.size * len(texts))
        self.from_hidden = nn.Linear(width, self.size)
        known = [column[~np.isnan(column)] for column in goals.T]
        mean = np.array([column.mean() if len(column) else 0.0 for column in known])
        std = np.array([column.std() if len(column) else 1.0 for column in known]) + 1e-4
        self.targets = torch.from_numpy(((goals - mean) / std).astype(np.float32))

    def patch_loss(self, patches: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """Mean squared error, in standard deviations of the goals, of (B, N, D) patches."""
        every = self.from_patches(patches.flatten(1)).unflatten(1, (-1, self.size))
        return self._loss(every[torch.arange(len(index)), self.which[index]], index)

    def hidden_loss(self, hidden: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """The same of (B, A, D) hidden states, averaged over the action tokens."""
        return self._loss(self.from_hidden(hidden.mean(1)), index)

    def _loss(self, predicted: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        target = self.targets[index]
        known = ~target.isnan()
        error = torch.where(known, predicted - target.nan_to_num(), torch.zeros_like(target))
        return error.square().sum() / known.sum().clamp(min=1)
