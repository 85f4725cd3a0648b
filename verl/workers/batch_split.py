"""How an update's samples are split: into mini-batches, and each of those over the ranks, in micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from verl.samples import REPLAYED, Samples


def mini_batches(trajectory: np.ndarray, size: int, order_of: np.random.Generator) -> list[np.ndarray]:
    """Whole trajectories in as many parts as come nearest to ``size`` of them, equal to within one.

    A short tail would make a step as long as any other: AdamW divides by the gradient's own size. Replayed chunks are
    of no trajectory; they are dealt out evenly, one by one.

    Args:
        trajectory: (N,) int64 of :class:`~verl.samples.Samples`.
        order_of: draws the order.

    Returns:
        For each mini-batch the positions of its samples, together each of 0 .. N - 1 once.
    """
    if not len(trajectory):
        return []
    whole = order_of.permutation(np.unique(trajectory[trajectory != REPLAYED]))
    replayed = order_of.permutation(np.flatnonzero(trajectory == REPLAYED))
    parts = max(1, int(len(whole) / size + 0.5))
    rows = {number: np.flatnonzero(trajectory == number) for number in whole}
    dealt = zip(np.array_split(whole, parts), np.array_split(replayed, parts))
    return [np.concatenate([*(rows[number] for number in mine), more]).astype(np.int64) for mine, more in dealt]


def shares(count: int, rank: int, world: int, micro: int) -> list[np.ndarray]:
    """Which of a mini-batch's ``count`` samples are in each micro-batch of ``rank``.

    Every rank has as many micro-batches as the others; a short rank's last may be empty.
    """
    mine = np.arange(rank, count, world)
    return [mine[start : start + micro] for start in range(0, -(-count // world), micro)]


def wanted(batches: Iterable[np.ndarray], rank: int, world: int) -> np.ndarray:
    """The samples that ``rank`` passes through its policy, each once, in the order of their first use.

    Args:
        batches: the mini-batches of an update, in their order.
    """
    mine = [batch[rank::world] for batch in batches]
    together = np.concatenate(mine) if mine else np.zeros(0, np.int64)
    _, first = np.unique(together, return_index=True)
    return together[np.sort(first)]


def micro_batches(batch: Samples, indices: list[np.ndarray]) -> Iterator[tuple[Samples, float]]:
    """The samples at each of ``indices`` with their share of the batch; for an empty one a sample that is masked."""
    for index in indices:
        if len(index):
            yield batch.take(index), len(index) / len(batch)
        else:
            empty = batch.take(np.zeros(1, np.int64))
            empty.images = np.zeros((1, *batch.images.shape[1:]), np.uint8)  # this rank may have no picture of it
            empty.mask = np.zeros_like(empty.mask)
            yield empty, 0.0
