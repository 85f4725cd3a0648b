"""Actions as tokens: 256 uniform bins of [-1, 1] on the last tokens of the vocabulary, as OpenVLA has it.

token id   vocab - 256 ........................ vocab - 1
bin              255                                 0          (descending: bin = vocab - id - 1)
value          +0.996 (bins 255 and 254 share it)  -0.996       (centres of the 255 intervals of 256 edges)
"""

from __future__ import annotations

import numpy as np
import torch


class ActionTokens:
    """Between normalised actions in [-1, 1] and token ids. ``vocab_size`` is without the embedding's padding."""

    def __init__(self, vocab_size: int, bins: int = 256) -> None:
        self.vocab_size, self.bins = vocab_size, bins
        self.first = vocab_size - bins
        self._edges = np.linspace(-1.0, 1.0, bins)
        centers = (self._edges[:-1] + self._edges[1:]) / 2.0
        index_to_bin = np.clip(bins - 1 - np.arange(bins), 0, bins - 2)
        self._values = centers[index_to_bin]

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Normalised actions of any shape to int64 token ids of that shape; values outside [-1, 1] are clipped."""
        digits = np.digitize(np.clip(actions, -1.0, 1.0), self._edges)
        return (self.vocab_size - digits).astype(np.int64)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Token ids to float64 bin centres in (-1, 1), shape kept. Other ids are clipped to the action tokens."""
        values: np.ndarray = self._values[np.clip(np.asarray(tokens) - self.first, 0, self.bins - 1)]
        return values

    def index(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids to positions 0..bins-1 in the slice of logits that belongs to the action tokens."""
        return tokens - self.first
