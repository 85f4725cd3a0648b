"""The best policy without learning: a constant added to one action dimension while the gripper is open or closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl.models.openvla_oft import OpenVLAOFTPolicy

SHIFTS = (-0.8, -0.4, -0.2, 0.2, 0.4, 0.8)
DIMENSIONS = 6  # the seventh action is the gripper's


@dataclass(frozen=True, order=True)
class Shift:
    """``amount`` is added to action ``dimension`` while the gripper's action is to close (``closed``) or to open."""

    dimension: int
    closed: bool
    amount: float


class Shifted:
    """A policy under a constant shift."""

    def __init__(self, policy: OpenVLAOFTPolicy, shift: Shift) -> None:
        self.policy, self.shift = policy, shift

    def predict(self, *arguments: Any) -> Any:
        output = self.policy.predict(*arguments)
        actions = np.array(output.actions)
        meant = (actions[..., 6] > 0) == self.shift.closed
        actions[..., self.shift.dimension] += self.shift.amount * meant
        return output._replace(actions=actions)


def every_shift() -> list[Shift]:
    """All that are tried."""
    return [Shift(d, closed, amount) for d in range(DIMENSIONS) for closed in (False, True) for amount in SHIFTS]


def halve(candidates: Sequence[Shift], rate: Callable[[Shift, int], float], most: int, least: int = 8) -> Shift:
    """The best of ``candidates`` by successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943): all are rated on
    ``least`` episodes, the better quarter on three times as many, and so on, the last ones on ``most``.
    ``rate(candidate, episodes)`` is a share of successes."""
    left, episodes = sorted(candidates), min(least, most)
    while True:
        rated = sorted(left, key=lambda one: -rate(one, episodes))  # stable: equals keep their order
        if episodes == most:
            return rated[0]
        left, episodes = rated[: max(2, len(rated) // 4)], min(most, 3 * episodes)
