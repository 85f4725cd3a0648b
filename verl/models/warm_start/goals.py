"""An auxiliary task that teaches the policy to look: where will the hand be when the gripper first closes?

The target is in every demonstration (hindsight), so nothing privileged is used. Without it, the likelihood of actions
alone leaves a small model blind for thousands of steps: the hand goes to the average place. Two linear heads, thrown
away after the warm start: one on all projected patches, which fills the patches with local positions within a hundred
steps, and one on the action tokens' hidden states, which makes the decoder read them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from verl.models.openvla_oft import OpenVLAOFTPolicy


class GoalHeads(nn.Module):
    """Predict normalised goals (3 numbers) from patches and from hidden states."""

    def __init__(self, policy: OpenVLAOFTPolicy, goals: np.ndarray) -> None:
        super().__init__()
        width = policy.language_model.config.hidden_size
        patches = policy.vision_backbone.num_patches * policy.config.num_images_in_input
        self.from_patches = nn.Linear(patches * width, 3)
        self.from_hidden = nn.Linear(width, 3)
        known = goals[~np.isnan(goals).any(1)]
        mean, std = (known.mean(0), known.std(0) + 1e-4) if len(known) else (np.zeros(3), np.ones(3))
        self.targets = torch.from_numpy(((goals - mean) / std).astype(np.float32))

    def patch_loss(self, patches: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """Mean squared error, in standard deviations of the goals, of (B, N, D) patches."""
        return self._loss(self.from_patches(patches.flatten(1)), index)

    def hidden_loss(self, hidden: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """The same of (B, A, D) hidden states, averaged over the action tokens."""
        return self._loss(self.from_hidden(hidden.mean(1)), index)

    def _loss(self, predicted: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        target = self.targets[index]
        known = ~target.isnan()
        error = torch.where(known, predicted - target.nan_to_num(), torch.zeros_like(target))
        return error.square().sum() / known.sum().clamp(min=1)
