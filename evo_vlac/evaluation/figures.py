"""How well a critic judges a dataset: the paper's table, and its done verdicts against what the data says.

VOC, VROC, NR and VOC-F1 are means over trajectories, zero-shot and one-shot; reference trajectories are left out of the
one-shot figures. Done is counted by frame and by trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evo_vlac import metrics
from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.evaluation.evaluator import EvaluationOptions, Judged, judge
from evo_vlac.evaluation.screening import Row
from evo_vlac.outputs import plain

ALL = "all"


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over ``trajectories``. ``invalid``: answers that cannot be read, in all."""

    trajectories: int
    voc: float
    vroc: float
    negative_rate: float
    voc_f1: float
    invalid: int

    @staticmethod
    def of(rows: Sequence[Row]) -> Figures:
        """The means; VOC-F1 is taken of the mean VOC and VROC."""
        voc, vroc, nr = (
            float(np.mean([getattr(row, name) for row in rows])) if rows else 0.0
            for name in ("voc", "vroc", "negative_rate")
        )
        return Figures(len(rows), voc, vroc, nr, metrics.voc_f1(voc, vroc), sum(row.invalid for row in rows))


@dataclass(frozen=True, slots=True)
class DoneFigures:
    """Done against the data: ``level`` is "frame" or "trajectory"; ``invalid`` answers count as not done."""

    level: str
    counts: metrics.Binary
    calibration: metrics.Calibration
    invalid: int


@dataclass(slots=True)
class Evaluation:
    """The result: figures by task and over ``all``; one-shot where asked; done where the data knows."""

    zero_shot: dict[str, Figures] = field(default_factory=dict)
    one_shot: dict[str, Figures] = field(default_factory=dict)
    done: dict[str, DoneFigures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        out: dict[str, Any] = {"zero_shot": plain(self.zero_shot), "one_shot": plain(self.one_shot), "done": {}}
        for level, done in self.done.items():
            counts = done.counts
            shares = {name: getattr(counts, name) for name in ("precision", "recall", "f1", "accuracy")}
            out["done"][level] = {**plain(done), **shares}
        return out


def evaluate(
    critic: Critic,
    trajectories: Iterable[Trajectory],
    options: EvaluationOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluates a critic on a dataset. Raises DatasetError for a dataset without trajectories."""
    options = options or EvaluationOptions()
    judged: list[Judged] = []
    for one in judge(critic, trajectories, options):
        judged.append(one)
        if progress is not None:
            progress(len(judged))
    return Evaluation(
        _grouped([(j.task, j.zero_shot) for j in judged]),
        _grouped([(j.task, j.one_shot) for j in judged]),
        _done_figures(judged, options.threshold),
    )


def _grouped(scored: Sequence[tuple[str, Row | None]]) -> dict[str, Figures]:
    """Figures by task and over all trajectories; empty without any."""
    rows = [(task, row) for task, row in scored if row is not None and row.critics]  # one frame has no progress
    if not rows:
        return {}
    tasks = sorted({task for task, _ in rows})
    by_task = {task: Figures.of([row for own, row in rows if own == task]) for task in tasks}
    return {**by_task, ALL: Figures.of([row for _, row in rows])}


def _done_figures(judged: Sequence[Judged], threshold: float) -> dict[str, DoneFigures]:
    """By frame where frames are flagged; by trajectory: the highest probability against whether it is ever done."""
    known = [j for j in judged if j.probabilities]
    levels = {
        "frame": [pair for j in known if j.flagged for pair in zip(j.probabilities, j.truth)],
        "trajectory": [(_highest(j.probabilities), j.success) for j in known],
    }
    return {level: _against(level, pairs, threshold) for level, pairs in levels.items() if pairs}


def _against(level: str, pairs: Sequence[tuple[float, bool]], threshold: float) -> DoneFigures:
    read = [(p, t) for p, t in pairs if not math.isnan(p)]
    counts = metrics.binary([p > threshold for p, _ in pairs], [t for _, t in pairs])
    calibration = metrics.calibration([p for p, _ in read], [t for _, t in read])
    return DoneFigures(level, counts, calibration, len(pairs) - len(read))


def _highest(probabilities: Sequence[float]) -> float:
    return max((p for p in probabilities if not math.isnan(p)), default=math.nan)
