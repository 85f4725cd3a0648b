"""A lane's verdicts as the sidecar writes them."""

from __future__ import annotations

import numpy as np

from shm_bridge.memory.lane_memory import LaneMemory
from shm_bridge.memory.layout import VERDICT, VERDICT_WORDS, SidecarWord
from shm_bridge.server.question import Question
from shm_bridge.spec import Float32Array, Kind, Reply
from shm_bridge.sync.ordering import MASK, publish_fence

ANSWERED = int(SidecarWord.ANSWERED)
VALUE = Kind.VALUE
U32 = (1 << 32) - 1
pack_verdict = VERDICT.pack_into


class VerdictRecords:
    """One record for each question that may be open, and the value list."""

    __slots__ = ("_base", "_epoch", "_slots", "_values", "_words")

    def __init__(self, memory: LaneMemory, epoch: int) -> None:
        self._words, self._base, self._epoch = memory.verdict_words, memory.verdict_base, epoch
        self._slots = memory.spec.question_slots
        self._values = memory.values()

    def holds(self, ticket: int) -> bool:
        """Whether this ticket has its verdict."""
        return self._words[self._base + (ticket & (self._slots - 1)) * VERDICT_WORDS] == ticket

    def write(self, ticket: int, reply: Reply, values: Float32Array | None, now_ns: int) -> None:
        """Payload first, the sequence number last; then the worker may look.

        Args:
            values: the reply's, checked; its ``value`` is then the last of them.
        """
        position = self._base + (ticket & (self._slots - 1)) * VERDICT_WORDS
        count, value = 0, reply.value
        if values is not None:
            count, value = len(values), float(values[-1])
            self._values[:count] = values
        words = self._words
        pack_verdict(
            words,
            position * 8,
            words[position],
            reply.status,
            bool(reply.done),
            bool(reply.valid),
            value,
            reply.probability,
            self._epoch,
            in_bounds(reply.queue_us),
            in_bounds(reply.engine_us),
            in_bounds(reply.batch_size),
            count,
            now_ns,
        )
        publish_fence()
        words[position] = ticket
        words[ANSWERED] = (words[ANSWERED] + 1) & MASK


def in_bounds(number: int) -> int:
    """A count or a time as the record holds it."""
    return min(max(int(number), 0), U32)


def checked_values(question: Question, reply: Reply) -> Float32Array | None:
    """The reply's value list as float32; None when it has none.

    Raises:
        ValueError: it has not one value for each scored frame, or the question is of a kind that has no list.
    """
    if reply.values is None:
        return None
    if question.kind is not VALUE:
        raise ValueError(f"values for a question of kind {question.kind.name}; only VALUE has a list")
    array = np.asarray(reply.values, np.float32).reshape(-1)
    if len(array) != len(question.places):
        raise ValueError(f"values has {len(array)} entries; the question has {len(question.places)} frames")
    return array
