"""The groups of one rollout: which have ended, and when another is started in the place of one without a signal."""

from __future__ import annotations

from dataclasses import dataclass, field

from verl.algorithms.batch import keeps, usable_groups
from verl.algorithms.core_algos import GroupFilter
from verl.episode import Episode, EpisodeLost

MOST_OVERSAMPLING = 4


@dataclass(slots=True)
class RolloutGroups:
    """Pure: the fleet, which runs the episodes, adds to ``finished`` and ``given_up``, and tells the group of each.

    Attributes:
        size: rollouts of a whole group.
        wanted: groups to train on.
        affordable: groups that the run has episodes for; at most ``MOST_OVERSAMPLING`` times what is wanted is started,
            since a filter that starves must not eat them all.
        started: groups started so far.
    """

    size: int
    rule: GroupFilter | None
    wanted: int
    affordable: int
    started: int
    finished: list[Episode] = field(default_factory=list)
    given_up: list[EpisodeLost] = field(default_factory=list)
    kept: int = 0
    dropped: int = 0

    def wants_another(self, group: int) -> bool:
        """One of ``group`` has ended; whether another group is to be started now."""
        members = [e for e in self.finished if e.request.group == group]
        if len(members) + sum(lost.request.group == group for lost in self.given_up) < self.size:
            return False
        if usable_groups(members, self.size) and keeps(self.rule, members):
            self.kept += 1
        else:
            self.dropped += 1
        running = self.started - self.kept - self.dropped
        if self.kept + running >= self.wanted or self.started >= min(self.affordable, MOST_OVERSAMPLING * self.wanted):
            return False
        self.started += 1
        return True

    def sort(self) -> None:
        """By number: sums and buffers must not depend on who came first."""
        self.finished.sort(key=lambda e: e.request.episode)

    def with_signal(self, episodes: list[Episode]) -> list[list[Episode]]:
        """The groups of ``episodes`` that are trained on."""
        return [g for g in usable_groups(episodes, self.size) if keeps(self.rule, g)][: self.wanted]
