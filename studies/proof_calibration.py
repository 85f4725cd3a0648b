"""The proof's threshold, from films that the critic was not trained on and without any word of a simulator.

Films of experts are successes and films of play are none, by the word of who made them. The threshold is the lowest at
which training would have ended at most ``MOST`` of the films of play.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evo_vlac.critic import Critic
from evo_vlac.datasets import DatasetOptions, open_datasets
from studies.proof_verdicts import HOLD, held_at

LINES = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))  # 0.3 to 0.95
MOST = 0.02
LAST = 0.2  # of an expert's film: what comes before is not done yet, and not asked about


def calibrate(critic: Critic, experts: Sequence[Path], play: Sequence[Path], hold: int = HOLD) -> dict[str, Any]:
    """``threshold``, and by each of ``LINES`` the shares of the experts' and of play's films with ``hold`` dones in a
    row; the highest of them, where none keeps to ``MOST``."""
    seen, played = _told(critic, experts, LAST), _told(critic, play, 1.0)
    shares = {line: (_ended(seen, line, hold), _ended(played, line, hold)) for line in LINES}
    threshold = next((line for line, (_, wrong) in shares.items() if wrong <= MOST), LINES[-1])
    return {"threshold": threshold, "films": [len(seen), len(played)], "ended": {str(k): v for k, v in shares.items()}}


def _told(critic: Critic, files: Sequence[Path], last: float) -> list[list[float]]:
    """By film the probabilities of done (NaN: no readable answer), of its ``last`` share of frames."""
    found = []
    for film in open_datasets(files, DatasetOptions(labels=False)):
        frames = list(film.frames)[-max(1, round(last * len(film))) :]
        found.append([answer.probability for answer in critic.done(frames, film.task)])
    return found


def _ended(films: Sequence[Sequence[float]], line: float, hold: int) -> float:
    return sum(held_at([p > line for p in film], hold) is not None for film in films) / max(1, len(films))
