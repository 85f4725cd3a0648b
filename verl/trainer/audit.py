"""VLAC's done against the simulator's, kept apart from learning: what a user looks at before trusting the critic."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from verl.episode import Episode, EpisodeLost
from verl.trainer.latencies import Latencies


@dataclass(slots=True)
class Confusion:
    """Episodes by the critic's verdict and the simulator's."""

    both: int = 0
    false_done: int = 0
    missed: int = 0
    neither: int = 0

    def add(self, done: bool, success: bool) -> None:
        if done and success:
            self.both += 1
        elif done:
            self.false_done += 1
        elif success:
            self.missed += 1
        else:
            self.neither += 1

    @property
    def precision(self) -> float:
        """Of the episodes that the critic called done, the share that the simulator calls a success; NaN without."""
        called = self.both + self.false_done
        return self.both / called if called else float("nan")

    @property
    def recall(self) -> float:
        """Of the simulator's successes, the share that the critic called done; NaN without any."""
        successes = self.both + self.missed
        return self.both / successes if successes else float("nan")


def said_done(probabilities: np.ndarray, threshold: float, hold: int) -> bool:
    """Whether the critic called an episode done that only the simulator could end: ``hold`` frames in a row.

    Args:
        probabilities: P(done) of each frame asked about, in order; NaN where there was no readable reply.
    """
    row = 0
    for probability in probabilities:
        row = row + 1 if probability > threshold else 0
        if row == hold:
            return True
    return False


@dataclass(slots=True)
class Audit:
    """Counts over the whole run, of a size that does not grow with it, and a window of the latest episodes, by number,
    for the warnings.

    A success of the simulator counts as missed only if the episode went on to its end without a done; an episode that
    the critic ended one frame early is a false done.
    """

    window: int = 64
    total: Confusion = field(default_factory=Confusion)
    recent: list[tuple[int, bool, bool]] = field(default_factory=list)
    recent_replies: list[tuple[int, int, int]] = field(default_factory=list)  # episode, unreadable, all
    latencies: Latencies = field(default_factory=Latencies)
    invalid: int = 0
    value_holes: int = 0
    outages: int = 0
    verdicts: int = 0

    def add(self, episode: Episode) -> None:
        end, number = episode.end, episode.request.episode
        self.total.add(end.complete, end.env_success)
        # by number, not by arrival: the order in which episodes end is chance
        self.recent = sorted([*self.recent, (number, end.complete, end.env_success)])[-self.window :]
        self.latencies.add(end.latencies_us)
        self.value_holes += end.value_holes
        self.outages += end.outages
        self._count(number, end.invalid, len(end.latencies_us))

    def add_dropped(self, lost: EpisodeLost) -> None:
        """An episode that an unreadable reply took out of its group."""
        self._count(lost.request.episode, 1, lost.verdicts)

    def _count(self, episode: int, invalid: int, verdicts: int) -> None:
        self.invalid += invalid
        self.verdicts += verdicts
        self.recent_replies = sorted([*self.recent_replies, (episode, invalid, verdicts)])[-self.window :]

    def recent_invalid_share(self) -> float:
        """Unreadable replies of all replies in the window; 0 without any."""
        return sum(one[1] for one in self.recent_replies) / max(1, sum(one[2] for one in self.recent_replies))

    def recent_precision(self) -> float:
        """Precision over the window; NaN with fewer than 8 dones in it."""
        dones = [success for _, done, success in self.recent if done]
        return float(np.mean(dones)) if len(dones) >= 8 else float("nan")

    def latency_ms(self, percentile: float) -> float:
        """Percentile of all verdicts' latencies, asked to answered, in ms, to 1 %; NaN without any."""
        return self.latencies.percentile_ms(percentile)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the counts of :attr:`latencies` go beside it."""
        return {
            "total": asdict(self.total),
            "recent": [list(entry) for entry in self.recent],
            "recent_replies": [list(entry) for entry in self.recent_replies],
            "invalid": self.invalid,
            "value_holes": self.value_holes,
            "outages": self.outages,
            "verdicts": self.verdicts,
        }

    def restore(self, state: dict[str, Any], latencies: np.ndarray) -> None:
        """The counterpart of :meth:`state`."""
        self.total = Confusion(**state["total"])
        self.recent = [(int(number), bool(done), bool(success)) for number, done, success in state["recent"]]
        self.recent_replies = [tuple(entry) for entry in state["recent_replies"]]
        for name in ("invalid", "value_holes", "outages", "verdicts"):
            setattr(self, name, state[name])
        self.latencies.counts = np.array(latencies)
