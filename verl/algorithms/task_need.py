"""Which task the next group of rollouts is of, where tasks are taken by need: pure functions.

What a task needs is told by the critic's dones of its latest training episodes, never by the simulator:

    success rate p    (dones + 1) / (episodes + 2), Laplace's rule of succession: 1/2 of a task that was never played
    weight w          failure: 1 - p, what is missing to the goal; harder tasks more, as by Sharma et al. 2018
                      (arXiv:1702.06053), who take its softmax | learnability: p (1 - p), the variance of a done and so
                      of a group's advantages, as ProCuRL's (Tzannetos et al. 2023, arXiv:2304.12877)
    share             floor / K + (1 - floor) w / sum of w, of K tasks: none is ever forgotten
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLINGS = ("even", "failure", "learnability")


def success_rate(dones: Sequence[bool]) -> float:
    """Laplace's estimate from the latest episodes' dones; see the module's head."""
    return (sum(dones) + 1) / (len(dones) + 2)


def task_shares(rates: np.ndarray, sampling: str, floor: float) -> np.ndarray:
    """(K,) float64 of sum 1: the share of groups that each task is due.

    Args:
        rates: (K,) success rates, over 0 and under 1.
        sampling: one of :data:`SAMPLINGS`.
        floor: the part of all groups that is dealt out evenly, 0 to 1.
    """
    even = np.full(len(rates), 1 / len(rates))
    if sampling == "even":
        return even
    weights = 1 - rates if sampling == "failure" else rates * (1 - rates)
    shares: np.ndarray = floor * even + (1 - floor) * weights / weights.sum()
    return shares


def take_turn(due: np.ndarray, shares: np.ndarray, order: np.ndarray) -> tuple[int, np.ndarray]:
    """The task whose turn it is, and what each is due after it; an own state for any number of calls.

    Each call every task is due its share more; the one that is due most is taken and is due 1 less. So after N calls
    of one ``shares`` a task was taken N times its share, to within the number of tasks: steadier than a draw.

    Args:
        due: (K,) float64, at first zeros.
        shares: (K,) of sum 1.
        order: (K,) a permutation; of those that are due the same the first in it is taken.
    """
    due = due + shares
    best = np.flatnonzero(due[order] >= due.max() - 1e-9)[0]  # sums of shares are exact to rounding only
    task = int(order[best])
    due[task] -= 1
    return task, due
