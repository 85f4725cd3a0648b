"""From the engine's answers to replies for the bridge.

INVALID is said of a whole answer of the model whose text cannot be read, and of nothing else. Where no such answer came
(an error of the engine, a server's login page, a question that cannot be asked) the reply is FAILED, with the reason as
its text: the asker may ask again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evo_vlac import values
from evo_vlac.engine import Answer, Image
from evo_vlac.parsing import CriticResult, parse_critic, read_done
from shm_bridge import Kind, Question, Reply, Status
from sidecar.config import Config
from sidecar.query_task import PendingList, QueryTask

logger = logging.getLogger(__name__)
_UNREADABLE_SHARE = 0.5  # of a value list's pairs, at most
VALUE_MODES: dict[str, values.ValueMode] = {"relative": True, "mirror": "mirror", "mix_f": "mix_f"}


@dataclass(slots=True)
class ExplainedReply(Reply):
    """A reply for the bridge, and what the log says about it.

    Attributes:
        text: what the model said that could not be read, or what failed.
        images: of the unreadable answer's query.
        unreadable: answers that could not be read: of a value list any number, else 0 or 1.
    """

    text: str = ""
    images: tuple[Image, ...] = ()
    unreadable: int = 0


class ReplyBuilder:
    """Reads answers as the configuration says. ``clock`` gives nanoseconds."""

    def __init__(self, config: Config, clock: Callable[[], int]) -> None:
        self.threshold, self.values, self._clock = config.threshold, config.values, clock

    def settle(
        self, task: QueryTask, answer: Answer, taken_ns: int, engine_ns: int, batch_size: int
    ) -> ExplainedReply | None:
        """Takes an answer in; the reply when it was the last one missing.

        Args:
            taken_ns: when the engine took the batch.
            engine_ns: what the whole batch took there.
        """
        question, pending = task.question, task.pending
        assert question is not None  # a probe's answer is not for the bridge
        if pending is None:
            reply = self._read(question, task, answer)
            return _timed(reply, taken_ns - question.asked_ns, engine_ns, batch_size)
        pending.count(taken_ns, engine_ns, batch_size)
        self._read_pair(pending, task.pair, answer)
        if pending.missing or pending.closed:
            return None
        waited_ns = pending.started_ns - question.asked_ns
        return _timed(self._list_reply(pending), waited_ns, pending.engine_ns, pending.batch_size)

    def unanswered(self, task: QueryTask, status: Status) -> ExplainedReply | None:
        """The reply where a task was given up, EXPIRED or CANCELLED; None where its question has one already."""
        question, pending = task.question, task.pending
        if question is None:
            return None
        if pending is None:
            return self.no_answer(question, status, "")
        if pending.closed or not pending.missing:
            return None
        pending.closed = True
        waited_ns = (pending.started_ns or self._clock()) - question.asked_ns
        return _timed(_no_answer(status, ""), waited_ns, pending.engine_ns, pending.batch_size)

    def no_answer(self, question: Question, status: Status, reason: str) -> ExplainedReply:
        """The reply to a question that no engine has seen."""
        return _timed(_no_answer(status, reason), self._clock() - question.asked_ns, 0, 0)

    def without_pairs(self, question: Question) -> ExplainedReply:
        """The reply to a VALUE question about one frame: there is nothing to compare, the list is ``[0]``."""
        return _timed(self._list_reply(PendingList(missing=0)), self._clock() - question.asked_ns, 0, 0)

    def _read(self, question: Question, task: QueryTask, answer: Answer) -> ExplainedReply:
        """Of a question that is one query."""
        try:
            if answer.error is not None:
                return _no_answer(Status.FAILED, answer.error)
            if question.kind is Kind.DONE:
                probability = read_done(answer)
                if math.isnan(probability):
                    return _unreadable(answer.text, task.query.images)
                return ExplainedReply(done=probability > self.threshold, probability=probability)
            critic = parse_critic(answer, rich=self.values.rich)
            if critic.valid:
                return ExplainedReply(value=critic.value, probability=critic.probability)
            return _unreadable(answer.text, task.query.images[-2:])
        except Exception as error:  # noqa: BLE001 - whatever an answer does to its reading, the others go on
            return _no_answer(Status.FAILED, _breaks(question.kind.name, error))

    def _read_pair(self, pending: PendingList, pair: int, answer: Answer) -> None:
        reason = answer.error
        try:
            pending.critics[pair] = parse_critic(answer, rich=self.values.rich)
        except Exception as error:  # noqa: BLE001 - as above
            reason = _breaks(Kind.VALUE.name, error)
        if pending.error is None:
            pending.error = reason

    def _list_reply(self, pending: PendingList) -> ExplainedReply:
        """The list, in which a pair that cannot be read keeps the value before it.

        It counts while that is an exception: the last pair, whose value is the reward, and at least half of all can be
        read. A pair without an answer is no pair that says nothing: the list has failed.
        """
        if pending.error is not None:
            return _no_answer(Status.FAILED, pending.error)
        critics = [pending.critics[pair] for pair in range(len(pending.critics))]
        listed = self._values(critics)
        wrong = [critic.text for critic in critics if not critic.valid]
        valid = not wrong or (critics[-1].valid and len(wrong) <= _UNREADABLE_SHARE * len(critics))
        return ExplainedReply(
            value=listed[-1] if valid else math.nan,
            probability=1.0 - len(wrong) / len(critics) if critics else 1.0,
            valid=valid,
            status=Status.OK if valid else Status.INVALID,
            values=np.asarray(listed, np.float32),
            text=wrong[0] if wrong else "",
            unreadable=len(wrong),
        )

    def _values(self, critics: Sequence[CriticResult]) -> list[float]:
        numbers = [critic.value if critic.valid else math.nan for critic in critics]
        return values.critic_to_values(numbers, VALUE_MODES[self.values.mode])


def _no_answer(status: Status, text: str) -> ExplainedReply:
    return ExplainedReply(valid=False, status=status, text=text)


def _unreadable(text: str, images: tuple[Image, ...]) -> ExplainedReply:
    return ExplainedReply(valid=False, status=Status.INVALID, text=text, images=images, unreadable=1)


def _breaks(kind: str, error: Exception) -> str:
    logger.debug("a %s answer", kind, exc_info=True)
    return f"the engine's answer cannot be read: {type(error).__name__}: {error}"


def _timed(reply: ExplainedReply, waited_ns: int, engine_ns: int, batch_size: int) -> ExplainedReply:
    reply.queue_us, reply.engine_us = max(0, waited_ns) // 1000, engine_ns // 1000
    reply.batch_size = batch_size
    return reply
