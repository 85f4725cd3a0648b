"""VLAC's questions as typed methods; every result says whether the answer could be read.

Critic.done / critic / trajectory / describe / ask / action
    -> queries.py -> Engine -> parsing.py -> values.py, metrics.py
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from evo_vlac import metrics, queries, values
from evo_vlac.abilities import Abilities
from evo_vlac.engine import Answer, Engine, Image, Query
from evo_vlac.errors import EngineError, OptionError
from evo_vlac.parsing import (
    DONE_THRESHOLD,
    ActionResult,
    CriticResult,
    DoneResult,
    parse_action,
    parse_critic,
    parse_done,
    parse_in_context_done,
    parse_task,
)
from evo_vlac.values import ValueOptions

REF_NUM = 6
"""Reference frames that are shown unless asked otherwise."""

Progress = Callable[[int, int], None]
"""Called with (answered, all) questions after every batch."""


@dataclass(frozen=True, slots=True)
class TrajectoryResult:
    """A scored trajectory. ``critics[k]`` (percent) compares frames ``pairs[k]``; ``values`` (percent, first 0) has one
    more entry, the k-th at frame ``frames[k]``. ``results`` are the answers themselves; an invalid one leaves the value
    as it was and stands as NaN in ``critics``.
    """

    task: str
    pairs: tuple[tuple[int, int], ...]
    frames: tuple[int, ...]
    critics: tuple[float, ...]
    values: tuple[float, ...]
    results: tuple[CriticResult, ...]
    reverse: bool = False

    @property
    def invalid(self) -> int:
        """How many answers could not be read."""
        return sum(not result.valid for result in self.results)

    @property
    def valid(self) -> bool:
        """Every answer could be read."""
        return self.invalid == 0

    @property
    def voc(self) -> float:
        """Value-order correlation, -1 to 1 (VROC where ``reverse``)."""
        return metrics.voc(self.values)

    @property
    def negative_rate(self) -> float:
        """Share of negative critics, 0 to 1."""
        return metrics.negative_rate(self.critics)

    @property
    def reward(self) -> float:
        """The last value as a reward, 0 to 1."""
        return values.reward(self.values[-1])


@dataclass(frozen=True, slots=True)
class TrajectoryOptions:
    """How a trajectory is scored.

    skip: frames between the images of a pair. frame_skip: score every skip-th frame only (else every frame, critic per
    frame). rich: decimals from probabilities. think: reasoning before the number. reverse: pairs are shown in reverse
    and the answers negated (for VROC). ref_num: reference frames shown. values: from critics to values.
    """

    skip: int = 1
    frame_skip: bool = True
    rich: bool = False
    think: bool = False
    reverse: bool = False
    ref_num: int = REF_NUM
    temperature: float = 0.0
    values: ValueOptions = field(default_factory=ValueOptions)

    def __post_init__(self) -> None:
        if self.skip < 1:
            raise OptionError(f"skip is {self.skip}; at least 1 is needed")
        if self.ref_num < 0:
            raise OptionError(f"ref_num is {self.ref_num}; 0 or more is allowed")


class Critic:
    """VLAC over an engine. ``system`` replaces the system prompt ("" for none); ``batch_size`` is how many questions go
    to the engine at once (it may split them further); ``abilities``: of the checkpoint, to warn of other questions.
    Images are uint8 (H, W, 3) arrays or PIL images, upright.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        system: str | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
        abilities: Abilities | None = None,
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}; at least 1 is needed")
        self.engine = engine
        self.system = system
        self.batch_size = batch_size
        self.progress = progress
        self.abilities = abilities or Abilities()

    def __enter__(self) -> Critic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the engine's model."""
        self.engine.close()

    def done(
        self,
        images: Sequence[Image],
        task: str | None,
        *,
        goal: Image | None = None,
        reference: Sequence[Image] = (),
        ref_num: int = REF_NUM,
        threshold: float = DONE_THRESHOLD,
    ) -> list[DoneResult]:
        """Is the task done, image by image?

        Plain; or against a ``goal`` image (task None: by the goal image alone); or in context, with a ``reference``
        trajectory: then ``images`` are one trajectory and its first image, which has nothing before it, is not done.
        """
        if goal is not None and len(reference):
            raise OptionError("both goal and reference are given; done takes one of them")
        if task is None and goal is None:
            raise OptionError("task is None; only with a goal image can the task be left out")
        if len(reference) and task is not None:
            return self._in_context_done(images, task, reference, ref_num, threshold)
        asked: list[Query] = []
        for image in images:
            if goal is not None:
                asked.append(queries.done_goal_query(goal, image, task, system=self.system))
            elif task is not None:
                asked.append(queries.done_query(image, task, system=self.system))
        return [parse_done(answer, threshold) for answer in self.answers(asked)]

    def critic(
        self,
        pairs: Sequence[tuple[Image, Image]],
        task: str,
        *,
        reference: Sequence[Image] = (),
        first: Image | None = None,
        ref_num: int = REF_NUM,
        rich: bool = False,
        think: bool = False,
        reverse: bool = False,
        temperature: float = 0.0,
    ) -> list[CriticResult]:
        """The progress of each (before, after), percent of the remaining work.

        ``reference``: a reference trajectory, of which ``ref_num`` frames are shown, and ``first``, the first frame of
        the episode (the first pair's ``before`` unless given). ``reverse``: shows (after, before) and negates.
        """
        shown = [reference[i] for i in queries.reference_indices(len(reference), ref_num)]
        if shown and first is None and len(pairs):
            first = pairs[0][0]
        asked = [
            queries.critic_query(
                *(pair[::-1] if reverse else pair),
                task,
                reference=shown,
                first=first,
                think=think,
                system=self.system,
                temperature=temperature,
            )
            for pair in pairs
        ]
        results = [parse_critic(answer, rich=rich, think=think) for answer in self.answers(asked)]
        return [_negated(result) for result in results] if reverse else results

    def trajectory(
        self,
        frames: Sequence[Image],
        task: str,
        *,
        reference: Sequence[Image] = (),
        options: TrajectoryOptions | None = None,
    ) -> TrajectoryResult:
        """Scores a trajectory; its last frame is always among the scored ones. A single frame has value 0."""
        options = options or TrajectoryOptions()
        if not len(frames):
            raise OptionError("the trajectory has no frames; at least 1 is needed")
        pairs = values.pair_indices(len(frames), options.skip, options.frame_skip)
        results = self.critic(
            [(frames[a], frames[b]) for a, b in pairs],
            task,
            reference=reference,
            first=frames[0],
            ref_num=options.ref_num,
            rich=options.rich,
            think=options.think,
            reverse=options.reverse,
            temperature=options.temperature,
        )
        raw = [r.value if options.frame_skip else r.value / (b - a) for r, (a, b) in zip(results, pairs)]
        critics, value_list = values.process(raw, options.values)
        return TrajectoryResult(
            task=task,
            pairs=tuple(pairs),
            frames=(0, *(b for _, b in pairs)),
            critics=tuple(critics),
            values=tuple(value_list),
            results=tuple(results),
            reverse=options.reverse,
        )

    def describe(self, first: Image, last: Image) -> str:
        """The task being done between two images."""
        return parse_task(self._one(queries.task_query(first, last, system=self.system)))

    def ask(self, images: Sequence[Image], question: str) -> str:
        """The answer to any question about any images."""
        return self._one(queries.vqa_query(images, question, system=self.system)).text

    def action(
        self,
        views: Sequence[Image],
        state: Sequence[float] | str,
        task: str,
        *,
        kind: queries.ActionKind = "action",
        think: bool = False,
    ) -> ActionResult:
        """The next action of the arm: ``views`` 1 to 3 images, ``state`` 7 numbers (mm, degrees, open)."""
        query = queries.action_query(views, state, task, kind=kind, think=think, system=self.system)
        return parse_action(self._one(query))

    def answers(self, asked: Sequence[Query]) -> list[Answer]:
        """The engine's answers, batch by batch, with progress. Single failures stay in ``Answer.error``; where every
        question failed (pictures of a wrong dtype, no memory for even one) EngineError says why."""
        self.abilities.tell(asked)
        out: list[Answer] = []
        for start in range(0, len(asked), self.batch_size):
            out.extend(self.engine.answer(asked[start : start + self.batch_size]))
            if self.progress is not None:
                self.progress(len(out), len(asked))
        if out and all(answer.error is not None for answer in out):
            raise EngineError(f"no question could be answered: {out[0].error}")
        return out

    def _one(self, query: Query) -> Answer:
        return self.answers([query])[0]

    def _in_context_done(
        self, images: Sequence[Image], task: str, reference: Sequence[Image], ref_num: int, threshold: float
    ) -> list[DoneResult]:
        shown = [reference[i] for i in queries.reference_indices(len(reference), max(1, ref_num))]
        asked = [
            queries.critic_query(a, b, task, reference=shown, first=images[0], think=True, system=self.system)
            for a, b in itertools.pairwise(images)
        ]
        start = [DoneResult(False, 0.0, 0.0, True, "")] if len(images) else []
        return start + [parse_in_context_done(answer, threshold) for answer in self.answers(asked)]


def _negated(result: CriticResult) -> CriticResult:
    """The answer to a pair shown in reverse, with the sign changed."""
    value = result.value if math.isnan(result.value) else 0.0 - result.value
    return CriticResult(value, result.valid, result.text, result.probability, result.after, result.before, result.error)
