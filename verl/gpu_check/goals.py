"""What the figures are to be at the published shapes on an H100, and memory to be as planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """``figure`` of ``part`` is to be at least ``least`` or at most ``most``."""

    part: str
    figure: str
    what: str
    least: float | None = None
    most: float | None = None

    def judged(self, value: float) -> dict[str, Any]:
        met = value >= self.least if self.least is not None else value <= (self.most or 0.0)
        bound = f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"
        return {"what": self.what, "value": value, "goal": bound, "met": met}


GOALS = (
    Goal("critic", "done_share_of_peak", "done, share of the measured bf16 peak", least=0.5),
    Goal("critic", "pair_times_straightforward", "pair with 6 references, times the straightforward way", least=4),
    Goal("phases", "card_used_in_update_gb", "UPDATE: in use on the card, GB", most=1.0),
    Goal("phases", "back_to_first_verdict_s", "back in ROLLOUT: first verdict, s", most=1.5),
    Goal("weights", "s_per_gib", "weights to a worker on the card, s/GiB", most=1.0),
)


def goals(figures: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Each goal whose part was measured: what, value, goal, met."""
    return [goal.judged(figures[goal.part][goal.figure]) for goal in GOALS if goal.part in figures]


MEMORY = {
    "rollout worker": ("policy", "rollout_gb"),
    "learner, LoRA": ("policy", "update_gb"),
    "critic": ("critic", "most_held_gb"),
}


def against_plan(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """where -> ``planned_gb``, ``measured_gb`` of what was measured on a card and planned (the part ``plan``)."""
    found = {}
    for where, (part, figure) in MEMORY.items():
        measured, planned = figures.get(part, {}).get(figure), figures.get("plan", {}).get(figure)
        if measured and planned:
            found[where] = {"planned_gb": planned, "measured_gb": measured}
    return found
