"""The critic of PPO: a small MLP on the decoder's hidden state at the first action token.

Not part of the published layout: it lies in ``value_head.safetensors`` beside it.
"""

from __future__ import annotations

import torch
from torch import nn


class ValueHead(nn.Module):
    """(B, action_tokens, D) hidden states to (B,) values. The last layer starts at zero: so do the values."""

    def __init__(self, dim: int, width: int | None = None) -> None:
        super().__init__()
        width = width or min(dim, 512)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, width)
        self.fc2 = nn.Linear(width, 1)
        self.act = nn.GELU()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """First values of all weights."""
        self.norm.reset_parameters()
        self.fc1.reset_parameters()
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The values, float32."""
        x = self.norm(hidden[:, 0].to(self.fc1.weight.dtype))
        values: torch.Tensor = self.fc2(self.act(self.fc1(x)))[:, 0].float()
        return values
