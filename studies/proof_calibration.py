"""The proof's thresholds, from films that the critic was not trained on and without any word of a simulator.

Films of experts are successes and films of play are none, by the word of who made them. An instruction's threshold is
the lowest at which training would have ended at most ``MOST`` of its films of play; where lines above it end as many of
the experts', the middle one of all these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evo_vlac.critic import Critic
from evo_vlac.datasets import DatasetOptions, open_datasets
from studies.proof_verdicts import HOLD, held_at

LINES = (*(round(0.3 + 0.05 * i, 2) for i in range(14)), 0.97, 0.98, 0.99)  # 0.3 to 0.95, and these
MOST = 0.05
LAST = 0.2  # of an expert's film: what comes before is not done yet, and not asked about
Told = dict[str, list[list[float]]]


def chosen(shares: Mapping[float, tuple[float, float]]) -> float:
    """The threshold, by the shares of experts' films and of play that each line ends; the highest line, where none
    keeps to ``MOST``."""
    kept = [line for line, (_, wrong) in shares.items() if wrong <= MOST]
    as_good = [line for line in kept if shares[line][0] >= shares[kept[0]][0]]
    return as_good[(len(as_good) - 1) // 2] if as_good else max(shares)


def calibrate(critic: Critic, experts: Sequence[Path], play: Sequence[Path], hold: int = HOLD) -> dict[str, Any]:
    """By instruction: ``threshold``, the number of ``films`` of both sorts, and by each of ``LINES`` the shares of them
    that ``hold`` dones in a row would have ended."""
    seen, played, found = _told(critic, experts, LAST), _told(critic, play, 1.0), {}
    for task in sorted(seen):
        shares = {line: (_ended(seen[task], line, hold), _ended(played[task], line, hold)) for line in LINES}
        threshold = chosen(shares)
        films = [len(seen[task]), len(played[task])]
        found[task] = {"threshold": threshold, "films": films, "ended": {str(k): v for k, v in shares.items()}}
    return found


def _told(critic: Critic, files: Sequence[Path], last: float) -> Told:
    """By instruction and film the probabilities of done (NaN: no readable answer), of its ``last`` share of frames."""
    found: Told = defaultdict(list)
    for film in open_datasets(files, DatasetOptions(labels=False)):
        frames = list(film.frames)[-max(1, round(last * len(film))) :]
        found[film.task].append([answer.probability for answer in critic.done(frames, film.task)])
    return found


def _ended(films: Sequence[Sequence[float]], line: float, hold: int) -> float:
    return sum(held_at([p > line for p in film], hold) is not None for film in films) / max(1, len(films))
