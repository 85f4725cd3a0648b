"""Trajectories to training pairs: which frames are shown, what is asked, and what the right answer is.

The kinds: done and critic questions with the answers of :mod:`evo_vlac.training.labels`, and negatives: reversed pairs,
stagnation, the wrong task, and (ours) the second half of failures. Shares say how often each is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from evo_vlac.datasets.trajectory import Outline
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.queries import reference_indices
from evo_vlac.training.labels import critic_label, done_labels, state_answer

OTHER_TASKS = (
    "open the drawer",
    "close the drawer",
    "stack the red cube on the green cube",
    "push the cube to the left",
    "push the red cube to the right",
    "turn on the stove",
    "put the bowl on the plate",
    "lift the green cube",
    "pick up the blue bottle",
    "open the door",
    "wipe the table",
    "insert the peg into the hole",
)
"""Instructions that none of the shown scenes fulfils; ``PairConfig.other_tasks`` replaces them."""

KINDS = (
    "done",
    "done_wrong_task",
    "critic",
    "reversed",
    "stagnant",
    "critic_wrong_task",
    "failed",
    "describe",
    "state",
    "reference",
    "think",
)


@dataclass(frozen=True, slots=True)
class Shares:
    """How often each kind of pair is drawn; weights, normalised over the kinds the data allows.

    ``reference`` (one-shot) and ``think`` are off by default: their questions show up to nine images, and one of them
    makes its whole batch as long; so is ``state`` (where the gripper is), which is not VLAC's question.
    """

    done: float = 0.54
    done_wrong_task: float = 0.08
    critic: float = 0.20
    reversed: float = 0.07
    stagnant: float = 0.05
    critic_wrong_task: float = 0.04
    failed: float = 0.08
    describe: float = 0.02
    state: float = 0.0
    reference: float = 0.0
    think: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0 <= getattr(self, item.name) < float("inf"):
                raise OptionError(f"shares.{item.name} is {getattr(self, item.name)}; 0 or more is allowed")
        if not any(getattr(self, kind) for kind in KINDS):
            raise OptionError("all shares are 0; at least one must be over 0")


@dataclass(frozen=True, slots=True)
class PairConfig:
    """How many pairs, of which kinds, and the labels' thresholds.

    ``positives``: share of done questions whose answer is 1. ``near``: share of the done negatives drawn from the
    frames just before success (``near_frames`` of them), where a critic errs first; ``near_positives``: share of the
    positives drawn from the first ``near_frames`` of success, where it hesitates. ``label_free``: of the data nothing
    but pictures and instructions is read (see :func:`evo_vlac.training.training_set.build_training_set`).
    """

    count: int = 10_000
    shares: Shares = field(default_factory=Shares)
    done_before: float = 0.8
    done_after: float = 0.95
    positives: float = 0.4
    near: float = 0.3
    near_positives: float = 0.0
    near_frames: int = 6
    other_tasks: tuple[str, ...] = OTHER_TASKS
    seed: int = 0
    label_free: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise OptionError(f"count is {self.count}; at least 1 is needed")
        if not 0 < self.done_before <= self.done_after <= 1:
            raise OptionError(
                f"done_before is {self.done_before}, done_after {self.done_after}; "
                "0 < done_before <= done_after <= 1 is needed"
            )
        for name in ("positives", "near", "near_positives"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}; 0 to 1 is allowed")
        if self.label_free and self.shares.state > 0:
            raise OptionError(f"shares.state is {self.shares.state}; label-free training reads no states: 0 is allowed")
        if self.near_frames < 1:
            raise OptionError(f"near_frames is {self.near_frames}; at least 1 is needed")


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with its answer. ``demo`` and ``frames`` are indices; ``kind`` is one of KINDS.

    ``reference``: frames of the episode ``reference_demo`` shown in front, as the example to follow.
    """

    kind: str
    demo: int
    frames: tuple[int, ...]
    task: str
    answer: str
    reference_demo: int = 0
    reference: tuple[int, ...] = ()


class PairSampler:
    """Draws pairs from trajectories; the same seed and trajectories give the same pairs."""

    def __init__(self, demos: Sequence[Outline], config: PairConfig) -> None:
        if not demos:
            raise DatasetError("no trajectories to make pairs of")
        self.demos, self.config = demos, config
        self.rng = np.random.default_rng(config.seed)
        labels = [done_labels(demo, config.done_before, config.done_after) for demo in demos]
        self.positive = {d: [i for i, v in enumerate(ls) if v == 1] for d, ls in enumerate(labels)}
        self.negative = {d: [i for i, v in enumerate(ls) if v == 0] for d, ls in enumerate(labels)}
        self.ends = {d: end for d, demo in enumerate(demos) if (end := demo.end) is not None}
        self.idle = [d for d, demo in enumerate(demos) if demo.kind == "idle"]
        self.with_positive = [d for d, frames in self.positive.items() if frames]
        self.with_negative = [d for d, frames in self.negative.items() if frames]
        self.with_success = list(self.ends)
        self.with_failed = [d for d, demo in enumerate(demos) if not self.positive[d] and demo.length > 3]
        self.with_state = [d for d, demo in enumerate(demos) if demo.proprio is not None]
        self.shown_tasks = list(dict.fromkeys(demo.task for demo in demos))
        tasks = [*config.other_tasks, *self.shown_tasks]
        self.tasks = list(dict.fromkeys(tasks))

    def draw(self) -> list[Pair]:
        """``config.count`` pairs in random order."""
        allowed = [kind for kind in KINDS if getattr(self.config.shares, kind) > 0 and self._possible(kind)]
        if not allowed:
            raise DatasetError("the trajectories allow none of the kinds asked for (no success among them?)")
        weights = np.array([getattr(self.config.shares, kind) for kind in allowed])
        kinds = self.rng.choice(len(allowed), size=self.config.count, p=weights / weights.sum())
        return [getattr(self, f"_{allowed[kind]}")() for kind in kinds]

    def _possible(self, kind: str) -> bool:
        if kind in ("critic", "reversed", "describe", "reference", "think"):
            return bool(self.with_success)
        if kind in ("done_wrong_task", "critic_wrong_task"):
            return len(self.tasks) > 1
        if kind in ("state", "failed"):
            return bool(getattr(self, f"with_{kind}"))
        return True

    def _pick(self, among: Sequence[int]) -> int:
        return int(among[int(self.rng.integers(len(among)))])

    def _done(self) -> Pair:
        positive = self.with_positive and self.rng.random() < self.config.positives
        if positive or not self.with_negative:
            demo = self._pick(self.with_positive)
            frames = self.positive[demo]
            if self.config.near_positives and self.rng.random() < self.config.near_positives:
                frames = frames[: self.config.near_frames]
            return Pair("done", demo, (self._pick(frames),), self.demos[demo].task, "1")
        near = self.with_success and self.rng.random() < self.config.near
        demo = self._pick(self.with_success if near else self.with_negative)
        frames = self.negative[demo]
        if near:
            end = self.ends[demo]
            close = [i for i in frames if end - self.config.near_frames <= i < end]
            frames = close or frames
        if not frames:
            return self._done()
        return Pair("done", demo, (self._pick(frames),), self.demos[demo].task, "0")

    def _done_wrong_task(self) -> Pair:
        # mostly on frames where the right task IS done: elsewhere the answer is 0 whatever the task says
        done = self.with_positive and self.rng.random() < 0.8
        demo = self._pick(self.with_positive) if done else self._pick(range(len(self.demos)))
        frame = self._pick(self.positive[demo]) if done else self._pick(range(self.demos[demo].length))
        return Pair("done_wrong_task", demo, (frame,), self._other_task(demo), "0")

    def _other_task(self, demo: int) -> str:
        """Half of the time one that other trajectories show, if there is one: same scene, other words."""
        shown = [task for task in self.shown_tasks if task != self.demos[demo].task]
        if shown and self.rng.random() < 0.5:
            return shown[self._pick(range(len(shown)))]
        return self.tasks[self._pick([i for i, t in enumerate(self.tasks) if t != self.demos[demo].task])]

    def _span(self) -> tuple[int, int, int]:
        """A demo and two frames of it, i < j; short and long distances alike."""
        demo = self._pick(self.with_success)
        end = self.ends[demo]
        distance = max(1, min(end, round(float(np.exp(self.rng.uniform(0, np.log(end)))))))
        start = int(self.rng.integers(0, end - distance + 1))
        after = 0
        if start + distance == end:  # any frame of the finished state is as good an end as the first
            after = int(self.rng.integers(0, self._until(demo) - end + 1))
        return demo, start, start + distance + after

    def _critic(self) -> Pair:
        demo, i, j = self._span()
        return Pair("critic", demo, (i, j), self.demos[demo].task, str(critic_label(i, j, self.ends[demo])))

    def _reversed(self) -> Pair:
        demo, i, j = self._span()
        return Pair("reversed", demo, (j, i), self.demos[demo].task, str(critic_label(j, i, self.ends[demo])))

    def _stagnant(self) -> Pair:
        draw = self.rng.random()
        if self.idle and draw < 0.4:  # time passes, nothing moves
            demo = self._pick(self.idle)
            i, j = sorted(int(f) for f in self.rng.integers(0, self.demos[demo].length, size=2))
        elif self.ends and draw < 0.6:  # after success there is no work left
            demo = self._pick(self.with_success)
            i, j = (int(f) for f in self.rng.integers(self.ends[demo], self._until(demo) + 1, size=2))
        else:
            demo = self._pick(range(len(self.demos)))
            i = j = self._pick(range(self.demos[demo].length))
        return Pair("stagnant", demo, (i, j), self.demos[demo].task, "0")

    def _until(self, demo: int) -> int:
        return self.demos[demo].done_until or self.ends[demo]

    def _critic_wrong_task(self) -> Pair:
        demo = self._pick(range(len(self.demos)))
        i, j = sorted(int(f) for f in self.rng.integers(0, self.demos[demo].length, size=2))
        return Pair("critic_wrong_task", demo, (i, j), self._other_task(demo), "0")

    def _describe(self) -> Pair:
        demo = self._pick(self.with_success)
        task = self.demos[demo].task
        return Pair("describe", demo, (0, self.ends[demo]), task, f"{task} </task>")

    def _failed(self) -> Pair:
        """The second half of a failure makes no progress: without such pairs a failure ends with a success's value."""
        demo = self._pick(self.with_failed)
        after = int(self.rng.integers(self.demos[demo].length // 2, self.demos[demo].length))
        before = int(self.rng.integers(0, after))
        return Pair("failed", demo, (before, after), self.demos[demo].task, "0")

    def _state(self) -> Pair:
        demo = self._pick(self.with_state)
        frame, proprio = self._pick(range(self.demos[demo].length)), self.demos[demo].proprio
        if proprio is None:
            raise DatasetError(f"{self.demos[demo].name}: no proprio")
        return Pair("state", demo, (frame,), self.demos[demo].task, state_answer(proprio[frame].tolist()))

    def _reference(self) -> Pair:
        """A pair after 2 to 6 frames of a success of the same task (of another episode, if there is one)."""
        demo, i, j = self._span()
        task = self.demos[demo].task
        same = [d for d in self.with_success if self.demos[d].task == task and d != demo] or [demo]
        other = self._pick(same)
        shown = reference_indices(self.ends[other] + 1, int(self.rng.integers(2, 7)))
        answer = str(critic_label(i, j, self.ends[demo]))
        return Pair("reference", demo, (0, i, j), task, answer, other, tuple(shown))

    def _think(self) -> Pair:
        """The same, with both images' progress written out first."""
        pair = self._reference()
        end = self.ends[pair.demo]
        first, second = (round(100 * min(frame, end) / end) for frame in pair.frames[1:])
        thought = f"<think> first image progressing: {first}%, second image progressing: {second}% </think>"
        return replace(pair, kind="think", answer=f"{thought} {pair.answer}")
