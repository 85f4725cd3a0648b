"""Where the rollout's time went, and what went wrong, over the whole run. A checkpoint holds it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from verl.workers.advance import Advance

logger = logging.getLogger(__name__)
MOST_REASONS = 32  # kept apart; some name an actor, and no two are alike
WINDOW = 200  # the latest episodes, over which the share of lost ones is taken


@dataclass(slots=True)
class FleetStatistics:
    """Seconds are summed over workers.

    Attributes:
        lost: tries that did not end, each given up or made once more.
        lost_with_workers: of those, the ones that a rollout worker took with it.
        given_up: requests that were lost twice; their groups are smaller.
        dropped: requests that the policy for unreadable replies took out; their groups are smaller.
        recent: 1 for a lost try, 0 for an episode, of the latest ``WINDOW``.
    """

    policy_s: float = 0.0
    policy_batches: int = 0
    policy_observations: int = 0
    lost: int = 0
    lost_with_workers: int = 0
    lost_reasons: dict[str, int] = field(default_factory=dict)
    given_up: int = 0
    dropped: int = 0
    workers_replaced: int = 0
    environments_replaced: int = 0
    recent: list[int] = field(default_factory=list)

    @property
    def recently_failed(self) -> int:
        """Lost tries in the window."""
        return sum(self.recent)

    def worked(self, report: Advance) -> None:
        """What a worker's policy and pool did."""
        self.policy_s += report.policy_s
        self.policy_batches += report.policy_batches
        self.policy_observations += report.policy_observations
        self.environments_replaced += report.environments_replaced

    def tried(self, failed: bool) -> None:
        """A try has ended, well or not; a worker's death is none of its own."""
        self.recent = [*self.recent, int(failed)][-WINDOW:]

    def count_lost(self, reason: str, number: int = 1) -> None:
        """Tries that did not end."""
        if not number:
            return
        self.lost += number
        told = reason if reason in self.lost_reasons or len(self.lost_reasons) < MOST_REASONS else "another reason"
        self.lost_reasons[told] = self.lost_reasons.get(told, 0) + number
        logger.warning("%d episode(s) lost: %s", number, reason)
