"""How well a critic judges a dataset: the paper's table, and its done verdicts against what the data says.

VOC, VROC, NR and VOC-F1 are means over trajectories, zero-shot and one-shot: the first success of each task is the
reference trajectory, and left out of the one-shot figures itself. Done is judged frame by frame where the data flags
frames, else by the last frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evo_vlac import metrics
from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.evaluation.screening import Row, ScreenOptions, Thresholds, score
from evo_vlac.parsing import DONE_THRESHOLD

ALL = "all"


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """skip: frames between the images of a pair. one_shot: also with a reference trajectory of ref_num frames.
    threshold: of done. every: done is asked of each every-th frame and the last. failures: also score those known to
    have failed.
    """

    skip: int = 5
    one_shot: bool = True
    ref_num: int = 6
    rich: bool = False
    mode: bool | str = True
    threshold: float = DONE_THRESHOLD
    every: int = 1
    failures: bool = False

    def __post_init__(self) -> None:
        for name in ("skip", "ref_num", "every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if not 0 <= self.threshold < 1:
            raise OptionError(f"threshold is {self.threshold}; allowed: 0 <= threshold < 1")


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over ``trajectories``."""

    trajectories: int
    voc: float
    vroc: float
    negative_rate: float
    voc_f1: float

    @staticmethod
    def of(rows: Sequence[Row]) -> Figures:
        """The means; VOC-F1 is taken of the mean VOC and VROC."""
        voc, vroc, nr = (
            float(np.mean([getattr(row, name) for row in rows])) if rows else 0.0
            for name in ("voc", "vroc", "negative_rate")
        )
        return Figures(len(rows), voc, vroc, nr, metrics.voc_f1(voc, vroc))


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
        from evo_vlac.outputs import plain

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
    """Evaluates a critic on a dataset. Raises DatasetError where there is nothing to evaluate on."""
    options = options or EvaluationOptions()
    zero: dict[str, list[Row]] = defaultdict(list)
    one: dict[str, list[Row]] = defaultdict(list)
    references: dict[str, Trajectory] = {}
    tally = _DoneTally(options)
    count = 0
    for count, trajectory in enumerate(trajectories, 1):
        tally.add(critic, trajectory)
        if trajectory.success is not False or options.failures:
            part = _until_done(trajectory)
            zero[part.task].append(_row(critic, part, options, None))
            if options.one_shot and part.task in references:
                one[part.task].append(_row(critic, part, options, references[part.task]))
            elif trajectory.success is not False:
                references[part.task] = part
        if progress is not None:
            progress(count)
    if count == 0:
        raise DatasetError("the dataset has no trajectories to evaluate on")
    return Evaluation(_grouped(zero), _grouped(one), tally.figures())


def _row(critic: Critic, trajectory: Trajectory, options: EvaluationOptions, reference: Trajectory | None) -> Row:
    screening = ScreenOptions(
        skip=options.skip,
        tail=0,
        rich=options.rich,
        ref_num=options.ref_num,
        mode=options.mode,
        thresholds=Thresholds(None, None, None, None, None, None),
    )
    return score(critic, trajectory, screening, reference=list(reference.frames) if reference else ())


def _until_done(trajectory: Trajectory) -> Trajectory:
    """A trajectory's order is judged up to its success: behind it nothing progresses any more."""
    end = trajectory.first_done
    return trajectory if not end else trajectory.take(range(end + 1))


def _grouped(rows: dict[str, list[Row]]) -> dict[str, Figures]:
    """Figures by task; and over all trajectories, where there are any."""
    every = [row for group in rows.values() for row in group]
    if not every:
        return {}
    return {**{task: Figures.of(group) for task, group in sorted(rows.items())}, ALL: Figures.of(every)}


class _DoneTally:
    """Collects done answers, by frame and by trajectory."""

    def __init__(self, options: EvaluationOptions) -> None:
        self.options = options
        self.levels: dict[str, tuple[list[float], list[bool]]] = {"frame": ([], []), "trajectory": ([], [])}

    def add(self, critic: Critic, trajectory: Trajectory) -> None:
        """Asks about a trajectory, where the data knows the truth."""
        last = len(trajectory) - 1
        if trajectory.dones is not None:
            picks = sorted({*range(0, len(trajectory), self.options.every), last})
        elif trajectory.success is not None:
            picks = [last]
        else:
            return
        answers = critic.done([trajectory.frames[i] for i in picks], trajectory.task)
        said = [answer.probability for answer in answers]
        if trajectory.dones is not None:
            self._append("frame", said, [trajectory.dones[i] for i in picks])
            self._append("trajectory", [_highest(said)], [any(trajectory.dones)])
        else:
            self._append("trajectory", said, [bool(trajectory.success)])

    def figures(self) -> dict[str, DoneFigures]:
        """What was collected, by level."""
        out = {}
        for level, (said, truth) in self.levels.items():
            if not said:
                continue
            known = [(p, t) for p, t in zip(said, truth) if p == p]
            counts = metrics.binary([p > self.options.threshold for p in said], truth)
            calibration = metrics.calibration([p for p, _ in known], [t for _, t in known])
            out[level] = DoneFigures(level, counts, calibration, len(said) - len(known))
        return out

    def _append(self, level: str, said: Sequence[float], truth: Sequence[bool]) -> None:
        self.levels[level][0].extend(said)
        self.levels[level][1].extend(truth)


def _highest(said: Sequence[float]) -> float:
    known = [p for p in said if p == p]
    return max(known) if known else float("nan")
