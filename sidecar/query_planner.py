"""From a question of the bridge to queries for the engine. Pure: no state, no clock, no threads.

DONE is one query, CRITIC one, VALUE one for each pair of neighbouring frames. What becomes of the answers is in
:mod:`sidecar.reply_builder`.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import numpy as np

from evo_vlac import queries
from evo_vlac.engine import Image, Query
from evo_vlac.errors import EvoVlacError
from shm_bridge import Kind, Question
from sidecar.errors import QuestionError
from sidecar.query_task import PendingList, Priority, QueryTask
from sidecar.reference import References

Frame = tuple[Image, Hashable]  # and its key: lane, generation, number of the frame, step


class QueryPlanner:
    """Plans queries.

    Args:
        references: whose frames are shown with every pair of their task.
        camera: the one that the critic sees; None: the lane's first.
        mixed: the engine takes all kinds of queries in one batch.
    """

    def __init__(self, references: References | None = None, camera: str | None = None, mixed: bool = False) -> None:
        self.references, self.camera, self.mixed = references or References(), camera, mixed

    def plan(self, question: Question) -> list[QueryTask]:
        """The tasks that answer ``question``; none for a value list of one frame. Raises QuestionError."""
        try:
            frames = self._frames(question)
            if question.kind is Kind.DONE:
                image, key = frames[-1]
                return [self._task(question, queries.done_query(image, question.task, keys=(key,)))]
            if question.kind is Kind.CRITIC:
                return [self._task(question, self._critic(question.task, frames[0], frames[0], frames[1]))]
            return self._pairs(question, frames)
        except (EvoVlacError, ValueError, IndexError, KeyError) as error:
            raise QuestionError(f"{type(error).__name__}: {error}") from error

    def _pairs(self, question: Question, frames: Sequence[Frame]) -> list[QueryTask]:
        pending = PendingList(missing=len(frames) - 1)
        return [
            self._task(question, self._critic(question.task, frames[0], before, after), pending, i)
            for i, (before, after) in enumerate(itertools.pairwise(frames))
        ]

    def _frames(self, question: Question) -> list[Frame]:
        keys = ((*key, step) for key, step in zip(question.frame_keys, question.steps))
        return list(zip(question.images(self.camera), keys))

    def _critic(self, task: str, first: Frame, before: Frame, after: Frame) -> Query:
        """The pair's query; ``first``, the first frame that the question names, is shown after the reference."""
        numbers = self.references.of(task)
        if not numbers:
            return queries.critic_query(before[0], after[0], task, keys=(before[1], after[1]))
        shown = [self.references.pictures[number] for number in numbers]
        keys = (*(("reference", number) for number in numbers), first[1], before[1], after[1])
        return queries.critic_query(before[0], after[0], task, reference=shown, first=first[0], keys=keys)

    def _task(self, question: Question, query: Query, pending: PendingList | None = None, pair: int = 0) -> QueryTask:
        return QueryTask(
            query,
            lane=question.lane,
            bucket=None if self.mixed else (query.kind, len(query.images), np.asarray(query.images[-1]).shape),
            priority=Priority.ANSWER if question.kind is Kind.CRITIC else Priority.WAITED_FOR,
            asked_ns=question.asked_ns,
            deadline_ns=question.deadline_ns,
            question=question,
            pending=pending,
            pair=pair,
        )
