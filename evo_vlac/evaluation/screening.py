"""Screening: ranks the trajectories of a dataset by the critic, and says which of them, and which steps, to keep.

After the paper (arXiv 2509.15937): trajectories are dropped by VOC and NR, steps with a negative critic are masked. The
done verdict on the last frames is added, since a trajectory can make progress and still not finish.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from evo_vlac import metrics
from evo_vlac.critic import Critic, TrajectoryOptions, TrajectoryResult
from evo_vlac.datasets import Trajectory
from evo_vlac.engine import Image
from evo_vlac.errors import OptionError
from evo_vlac.values import ValueOptions

PROGRESS = ("voc", "vroc", "voc_f1", "negative_rate", "value")
"""The figures of :class:`Row` that are made of critics."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which trajectories are kept: all bounds hold. ``None`` switches one off.

    min_voc, min_vroc, min_f1: -1 to 1. max_nr: share of negative critics, 0 to 1. min_value: last value, percent.
    min_done: highest done probability among the last frames, 0 to 1.
    """

    min_voc: float | None = 0.5
    min_vroc: float | None = None
    min_f1: float | None = None
    max_nr: float | None = 0.5
    min_value: float | None = None
    min_done: float | None = 0.5

    def reasons(self, row: Row) -> tuple[str, ...]:
        """Why the trajectory is dropped; empty if it is kept."""
        progress: list[_Bound] = [
            ("VOC", row.voc, self.min_voc, False),
            ("VROC", row.vroc, self.min_vroc, False),
            ("VOC-F1", row.voc_f1, self.min_f1, False),
            ("NR", row.negative_rate, self.max_nr, True),
            ("value", row.value, self.min_value, False),
        ]
        missed = list(_missed(progress))
        if not row.judged:
            missed = [row.unjudged] if any(bound is not None for _, _, bound, _ in progress) else []
        if row.done is None and row.tail and self.min_done is not None:
            missed.append("done unreadable")
        return (*missed, *_missed([("done", row.done, self.min_done, False)]))


_Bound = tuple[str, float | None, float | None, bool]


def _missed(bounds: Iterable[_Bound]) -> Iterator[str]:
    """Which do not hold, in words: (name, value, bound, whether the bound is the highest allowed)."""
    for name, value, bound, upper in bounds:
        if bound is not None and value is not None and (value > bound if upper else value < bound):
            yield f"{name} {value:.2f} {'over' if upper else 'under'} {bound:g}"


@dataclass(frozen=True, slots=True)
class ScreenOptions:
    """skip: frames between the images of a pair. reverse: also ask in reverse (VROC, VOC-F1; twice the questions).
    tail: last frames whose done is asked. mode: how critics add up to values, see ``values``."""

    skip: int = 5
    reverse: bool = True
    tail: int = 3
    rich: bool = False
    ref_num: int = 6
    mode: bool | str = True
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        for name, low in (("skip", 1), ("tail", 0), ("ref_num", 0)):
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}; at least {low} is needed")

    def trajectory(self, reverse: bool) -> TrajectoryOptions:
        """The options of one pass over a trajectory."""
        return TrajectoryOptions(
            skip=self.skip, rich=self.rich, reverse=reverse, ref_num=self.ref_num, values=ValueOptions(mode=self.mode)
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One trajectory's figures. ``mask`` has a flag per step (frames - 1): False where the critic over it is negative.

    ``scored`` are numbers of the trajectory's frames; ``source_frames`` and ``seconds`` say of each of its frames which
    one of the recording it is, and when.
    ``vroc`` and ``voc_f1`` are None where they were not asked for, ``done`` where no last frame was, or none of
    the ``tail`` answers can be read. ``invalid``: answers that cannot be read, in all.
    """

    name: str
    task: str
    frames: int
    voc: float
    vroc: float | None
    voc_f1: float | None
    negative_rate: float
    value: float
    done: float | None
    invalid: int
    mask: tuple[bool, ...]
    critics: tuple[float, ...]
    values: tuple[float, ...]
    scored: tuple[int, ...]
    keep: bool = True
    reasons: tuple[str, ...] = ()
    source_frames: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    tail: int = 0

    @property
    def judged(self) -> bool:
        """At least one critic could be read. Else ``voc``, ``negative_rate`` and the others are 0 and say nothing."""
        return metrics.any_readable(self.critics)

    @property
    def unjudged(self) -> str:
        """Why it is not judged."""
        return "no critic could be read" if self.critics else metrics.ONE_FRAME

    @property
    def score(self) -> float:
        """What the table is ranked by: the mean of what is known of VOC-F1 (or VOC), 1 - NR and done."""
        order = self.voc if self.voc_f1 is None else self.voc_f1
        parts = [order, 1 - self.negative_rate, *([self.done] if self.done is not None else [])]
        return sum(parts) / len(parts)


def screen(
    critic: Critic,
    trajectories: Iterable[Trajectory],
    options: ScreenOptions | None = None,
    reference: Sequence[Image] = (),
) -> Iterator[tuple[Trajectory, Row]]:
    """Scores trajectories one by one, in their order (rank them with :func:`ranked`)."""
    options = options or ScreenOptions()
    for trajectory in trajectories:
        yield trajectory, score(critic, trajectory, options, reference)


def score(critic: Critic, trajectory: Trajectory, options: ScreenOptions, reference: Sequence[Image] = ()) -> Row:
    """The figures of one trajectory."""
    frames = list(trajectory.frames)
    forward = critic.trajectory(frames, trajectory.task, reference=reference, options=options.trajectory(False))
    vroc = f1 = None
    invalid = forward.invalid
    if options.reverse:
        backward = critic.trajectory(frames, trajectory.task, reference=reference, options=options.trajectory(True))
        vroc, invalid = backward.voc, invalid + backward.invalid
        f1 = metrics.voc_f1(forward.voc, vroc)
    done = None
    if options.tail:
        answers = critic.done(frames[-options.tail :], trajectory.task)
        read = [answer.probability for answer in answers if answer.valid]
        invalid += len(answers) - len(read)
        done = max(read) if read else None
    row = Row(
        name=trajectory.name,
        task=trajectory.task,
        frames=len(frames),
        voc=forward.voc,
        vroc=vroc,
        voc_f1=f1,
        negative_rate=forward.negative_rate,
        value=forward.values[-1],
        done=done,
        invalid=invalid,
        mask=step_mask(forward, len(frames)),
        critics=forward.critics,
        values=forward.values,
        scored=forward.frames,
        source_frames=trajectory.source_frames,
        seconds=trajectory.seconds,
        tail=min(options.tail, len(frames)),
    )
    reasons = options.thresholds.reasons(row)
    known = {item.name: getattr(row, item.name) for item in fields(row)}
    return Row(**{**known, "keep": not reasons, "reasons": reasons})


def step_mask(result: TrajectoryResult, frames: int) -> tuple[bool, ...]:
    """A flag per step from frame i to i + 1: False where a negative critic spans it. Unreadable critics mask
    nothing."""
    mask = [True] * max(0, frames - 1)
    for (before, after), critic in zip(result.pairs, result.critics):
        if not math.isnan(critic) and critic < 0:
            mask[before:after] = [False] * (after - before)
    return tuple(mask)


def ranked(rows: Iterable[Row]) -> list[Row]:
    """Best first; kept ones before dropped ones."""
    return sorted(rows, key=lambda row: (not row.keep, -row.score, row.name))


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON has them, in their order."""
    return [
        {
            "rank": rank,
            "score": round(row.score, 4),
            **{item.name: getattr(row, item.name) for item in fields(row)},
            **({} if row.judged else dict.fromkeys(PROGRESS)),
            "masked_steps": row.mask.count(False),
        }
        for rank, row in enumerate(rows, 1)
    ]
