"""A rollout worker's end of a hand-over of weights; the learners' is :mod:`verl.workers.weight_transfer`. Knows no Ray.

bytes out of Ray's store, or a handle for CUDA IPC -> a view of the bucket -> rows of the policy's tensors
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.multiprocessing import reductions

from verl.errors import WeightsError
from verl.workers.weight_buckets import Piece, from_bytes, travelling, unpack

shared_tensor: Any = reductions.rebuild_cuda_tensor  # which has no types
DEVICE_ARGUMENT = 6  # of it


def card(device: torch.device) -> str | None:
    """The GPU's own identifier, the same in every process; None on the CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def finish(device: torch.device) -> None:
    """Until what was begun on ``device`` is done: another process is told next."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class WeightReceiver:
    """A rollout worker's end. ``dtype``: of its policy, the senders' too."""

    def __init__(self, policy: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
        self.policy, self.dtype, self.device = policy, dtype, device
        self._number = 0
        self._left = 0  # elements of the hand-over under way that have not come
        self._targets: dict[str, torch.Tensor] = {}

    def take(self, number: int, pieces: Sequence[Piece], payload: Any) -> None:
        """Copies a bucket of hand-over ``number`` into the policy: bytes, or what a learner shares over CUDA IPC."""
        if number != self._number:
            goes = travelling(self.policy)
            self._targets = {name: tensor for name, tensor in self.policy.state_dict().items() if goes(name)}
            self._number, self._left = number, sum(tensor.numel() for tensor in self._targets.values())
        if isinstance(payload, np.ndarray):
            flat = from_bytes(payload, self.dtype).to(self.device)
        else:
            shared = list(payload)
            shared[DEVICE_ARGUMENT] = self.device.index or 0  # the number that the card has in this process
            flat = shared_tensor(*shared)
        unpack(pieces, flat, self._targets)
        finish(self.device)  # once this returns the sender uses the memory again
        self._left -= sum(piece.elements for piece in pieces)

    def check_whole(self) -> None:
        """Raises WeightsError while a hand-over that has begun is not complete."""
        if self._left:
            raise WeightsError(
                f"hand-over {self._number} of weights is not complete: {self._left} numbers have not come, the policy "
                "is a mixture of two"
            )
