"""A policy's weights in buckets of bounded size: what a learner packs and a rollout worker unpacks.

    tensors, or rows of them -> flat buffer in the rollout's dtype -> bytes -> rows of the worker's tensors

A tensor larger than a bucket is cut between its rows. With adapters only what is trained travels: the rest lies in the
checkpoint that both have loaded.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from verl.errors import WeightsError

IN_FLIGHT = 2  # buckets of one rank that are not taken yet
ON_CARD_BYTES = 64 * 2**20  # a bucket in a card's memory


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows ``row`` and on of the tensor ``name``. ``shape``: of the piece; a scalar is one row, of shape (1,)."""

    name: str
    row: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def travelling(policy: nn.Module) -> Callable[[str], bool]:
    """Whether a tensor of the state dict is handed over: with adapters the trained ones, else all."""
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    adapted = any(".lora_" in name for name in trained)
    return lambda name: not adapted or name in trained


def plan(tensors: Mapping[str, tuple[int, Sequence[int]]], most: int) -> list[list[Piece]]:
    """Buckets of at most ``most`` elements, though never of less than a row.

    Args:
        tensors: first row and shape of what is to be sent of each tensor, by name.
    """
    buckets: list[list[Piece]] = []
    room = 0
    for name, (first, shape) in tensors.items():
        count, *rest = shape or (1,)
        row, width = 0, math.prod(rest)
        while row < count and width:
            if room < width:
                buckets.append([])
                room = most
            rows = min(count - row, max(1, room // width))
            buckets[-1].append(Piece(name, first + row, (rows, *rest)))
            row += rows
            room -= rows * width
    return buckets


def rows_of(tensor: torch.Tensor, piece: Piece, first: int = 0) -> torch.Tensor:
    """The rows of ``tensor`` that ``piece`` means, a view; ``first``: the number of the tensor's first row."""
    rows = tensor.reshape(1) if tensor.ndim == 0 else tensor
    return rows.narrow(0, piece.row - first, piece.shape[0])


def pack(pieces: Sequence[Piece], read: Callable[[Piece], torch.Tensor], buffer: torch.Tensor) -> torch.Tensor:
    """What ``read`` gives for each piece, converted and in one row: the front of ``buffer``."""
    at = 0
    for piece in pieces:
        buffer[at : at + piece.elements].view(piece.shape).copy_(read(piece))
        at += piece.elements
    return buffer[:at]


def unpack(pieces: Sequence[Piece], flat: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> None:
    """Copies a bucket into ``targets``. Raises WeightsError for a tensor that is not there or has another shape."""
    at = 0
    for piece in pieces:
        target = targets.get(piece.name)
        if target is None:
            raise WeightsError(f"the learners send {piece.name}, which the rollout's policy has not")
        if tuple(target.shape[1:]) != piece.shape[1:] or piece.row + piece.shape[0] > (target.shape or (1,))[0]:
            raise WeightsError(
                f"the learners send {piece.name}[{piece.row}:{piece.row + piece.shape[0]}] of shape {piece.shape}, "
                f"the rollout's has the shape {tuple(target.shape)}"
            )
        rows_of(target, piece).copy_(flat[at : at + piece.elements].view(piece.shape))
        at += piece.elements


def to_bytes(flat: torch.Tensor) -> np.ndarray:
    """A flat tensor's bytes; a view where it is on the CPU."""
    array: np.ndarray = flat.cpu().view(torch.uint8).numpy()
    return array


def from_bytes(words: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """The counterpart of :func:`to_bytes`; a view, to be read only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # Ray's store gives it so, and it is only read
        return torch.from_numpy(words).view(dtype)
