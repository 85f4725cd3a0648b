"""How an update's samples are split: into mini-batches, and each of those over the ranks, in micro-batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from verl.samples import Samples


def mini_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """``order`` in as many parts as come nearest to ``size``, equal to within one sample.

    A short tail would make a step as long as any other: AdamW divides by the gradient's own size.
    """
    parts = max(1, int(len(order) / size + 0.5))
    return np.array_split(order, parts) if len(order) else []


def shares(count: int, rank: int, world: int, micro: int) -> list[np.ndarray]:
    """Which of a mini-batch's ``count`` samples are in each micro-batch of ``rank``.

    Every rank has as many micro-batches as the others; a short rank's last may be empty.
    """
    mine = np.arange(rank, count, world)
    return [mine[start : start + micro] for start in range(0, -(-count // world), micro)]


def micro_batches(batch: Samples, indices: list[np.ndarray]) -> Iterator[tuple[Samples, float]]:
    """The samples at each of ``indices`` with their share of the batch; for an empty one a sample that is masked."""
    for index in indices:
        if len(index):
            yield batch.take(index), len(index) / len(batch)
        else:
            empty = batch.take(np.zeros(1, np.int64))
            empty.mask = np.zeros_like(empty.mask)
            yield empty, 0.0
