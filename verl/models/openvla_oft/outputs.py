"""What goes into and comes out of the policy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch


class PolicyOutput(NamedTuple):
    """A sampled chunk for each observation; on the CPU, without gradients."""

    actions: np.ndarray  # (B, chunk, action_dim) float32, the robot's units
    tokens: torch.Tensor  # (B, chunk * action_dim) int64 vocabulary ids
    log_probs: torch.Tensor  # (B, chunk * action_dim) float32, of tokens, at the sampling temperature
    values: torch.Tensor | None  # (B,) float32 of the value head, None without one


class Evaluation(NamedTuple):
    """Given tokens under the current weights; with gradients."""

    log_probs: torch.Tensor  # (B, chunk * action_dim) float32
    entropy: torch.Tensor  # (B, chunk * action_dim) float32, in nats
    values: torch.Tensor | None  # (B,) float32
