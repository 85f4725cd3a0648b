"""Where training under a critic ends an episode, and whether the simulator agrees there."""

from __future__ import annotations

from collections.abc import Sequence

from evo_vlac.evaluation.evaluator import Judged

HOLD = 2  # set before the first audit


def held_at(said: Sequence[bool], hold: int) -> int | None:
    """The frame at which training ends an episode: the last of the first ``hold`` in a row that are called done; None
    without such."""
    return next((i for i in range(hold - 1, len(said)) if all(said[i - hold + 1 : i + 1])), None)


def ended(episodes: Sequence[Judged], threshold: float, hold: int) -> dict[str, int]:
    """What training would have made of them: ended by ``hold`` dones in a row where the simulator agrees, or not."""
    counts = {"ended_rightly": 0, "ended_wrongly": 0, "missed": 0, "not_done": 0}
    for one in episodes:
        last = held_at([p > threshold for p in one.probabilities], hold)
        if last is not None:
            counts["ended_rightly" if one.truth[last] else "ended_wrongly"] += 1
        else:
            counts["missed" if one.success else "not_done"] += 1
    return counts
