"""The worker's questions: which are open, writing their records, reading their verdicts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial

from shm_bridge.errors import InvalidRequest, QuestionsFull
from shm_bridge.liveness.attachment import Attachment
from shm_bridge.memory import layout
from shm_bridge.memory.lane_memory import LaneMemory
from shm_bridge.memory.layout import QUESTION, VERDICT, WorkerWord
from shm_bridge.spec import Kind, Status, Verdict
from shm_bridge.sync.ordering import HALF, MASK, at_or_before, publish_fence
from shm_bridge.worker.frame_places import FramePlaces
from shm_bridge.worker.lane_state import FrameSlot, LaneState, OpenQuestion

logger = logging.getLogger(__name__)
# plain names and numbers: looking up a member of an Enum takes as long as ten words of shared memory
DONE, VALUE, CRITIC = Kind.DONE, Kind.VALUE, Kind.CRITIC
OK, FAILED = Status.OK, int(Status.FAILED)
STATUSES = tuple(Status)
assert [int(status) for status in STATUSES] == list(range(len(STATUSES)))
ASKED = layout.WORKER_OFFSET // 8 + int(WorkerWord.ASKED)
CANCELLED = layout.WORKER_OFFSET // 8 + int(WorkerWord.CANCELLED)
VERDICT_WORDS, QUESTIONS_OFFSET = layout.VERDICT_WORDS, layout.QUESTIONS_OFFSET
Ticket = int
NAN = math.nan
unpack_verdict, pack_question = VERDICT.unpack_from, QUESTION.pack_into
# what NamedTuple makes of a call costs twice as much
new_open: Callable[[tuple[object, ...]], OpenQuestion] = partial(tuple.__new__, OpenQuestion)
new_verdict: Callable[[tuple[object, ...]], Verdict] = partial(tuple.__new__, Verdict)


class OpenQuestions:
    """Tickets are consecutive 64-bit numbers; a ticket's place is its low bits. One VALUE may be open at a time."""

    __slots__ = (
        "_attachment",
        "_frames",
        "_received",
        "_slots",
        "_state",
        "_values",
        "_verdict_base",
        "_verdicts",
        "_words",
    )

    def __init__(self, memory: LaneMemory, frames: FramePlaces, attachment: Attachment, state: LaneState) -> None:
        self._frames, self._state, self._attachment = frames, state, attachment
        self._words, self._verdicts = memory.words, memory.verdict_words
        self._slots = memory.spec.question_slots
        self._verdict_base = memory.verdict_base
        self._values = memory.values()
        self._received: dict[int, Verdict] = {}

    @property
    def unanswered(self) -> list[OpenQuestion]:
        """Neither cancelled nor taken over."""
        cancelled = self._state.cancelled
        return [one for ticket, one in self._state.open.items() if (cancelled - ticket) & MASK >= HALF]

    def has_room(self, kind: Kind) -> bool:
        """Whether the next ticket's place is free (and the value list, for a VALUE); collects what has come."""
        if self._is_full(kind):
            self.harvest()
            return not self._is_full(kind)
        return True

    def _is_full(self, kind: Kind) -> bool:
        state = self._state
        return (state.next_ticket - self._slots) & MASK in state.open or (kind == VALUE and state.value is not None)

    def wait_for_room(self, kind: Kind, timeout: float, until: Callable[[Callable[[], bool], float], bool]) -> None:
        if not until(lambda: self.has_room(kind), timeout):
            raise QuestionsFull(
                f"{len(self._state.open)} questions are open after {timeout:g} s; questions={self._slots} in the "
                "LaneSpec, one VALUE at a time"
            )

    def ask(self, kind: Kind, first: FrameSlot, last: FrameSlot, stride: int, deadline: float | None) -> Ticket:
        """Writes the record, its sequence number last, then tells the sidecar; only after that it counts as open."""
        if kind == DONE and stride == 1:
            places: tuple[int, ...] = (first.index,)
            count = 1
        else:
            places, count = self._span(kind, first, last, stride)
        state = self._state
        ticket = state.next_ticket
        place = ticket & (self._slots - 1)
        now = self._write(ticket, QUESTIONS_OFFSET + place * 128, kind, first, last, stride, count, deadline)
        position = self._verdict_base + place * VERDICT_WORDS
        state.open[ticket] = new_open((ticket, kind, first.episode, last.step, places, count, position, now))
        state.next_ticket = (ticket + 1) & MASK
        for at in places:
            state.busy[at] += 1
        if kind == VALUE:
            state.value = ticket
        return ticket

    def _write(
        self,
        ticket: Ticket,
        offset: int,
        kind: Kind,
        first: FrameSlot,
        last: FrameSlot,
        stride: int,
        count: int,
        deadline: float | None,
    ) -> int:
        now = time.monotonic_ns()
        words = self._words
        pack_question(
            words,
            offset,
            words[offset >> 3],
            kind,
            first.episode,
            first.index,
            last.index,
            stride,
            count,
            first.seq,
            last.seq,
            now,
            0 if deadline is None else now + max(int(deadline * 1e9), 0),
        )
        publish_fence()
        words[offset >> 3] = ticket
        publish_fence()
        words[ASKED] = ticket
        publish_fence()
        self._attachment.bell.ring()
        return now

    def _span(self, kind: Kind, first: FrameSlot, last: FrameSlot, stride: int) -> tuple[tuple[int, ...], int]:
        """Places that the question keeps, and how many frames it is about."""
        span = last.order - first.order
        if span < 0 or not 1 <= stride < 1 << 32:
            raise InvalidRequest(f"first={first!r}, last={last!r}, stride={stride}: must be in order, stride 1 or more")
        if kind == DONE:
            return (first.index,), 1
        if kind == CRITIC:
            return (first.index, last.index), 2
        return self._frames.places(first, last), -(-span // stride) + 1

    def find_open(self, ticket: Ticket) -> OpenQuestion | None:
        """The question, when its verdict has neither been taken over nor been given up."""
        question = self._state.open.get(ticket)
        return None if question is None or (self._state.cancelled - ticket) & MASK < HALF else question

    def was_cancelled(self, ticket: Ticket) -> bool:
        return at_or_before(ticket, self._state.cancelled)

    def harvest(self) -> None:
        """Takes over every verdict that has come."""
        verdicts = self._verdicts
        for question in [q for q in self._state.open.values() if verdicts[q.position] == q.ticket]:
            verdict = self.collect(question)
            if not self.was_cancelled(question.ticket):
                self._received[question.ticket] = verdict

    def receive(self, ticket: Ticket) -> Verdict | None:
        return self._received.pop(ticket, None)

    def receive_all(self) -> list[Verdict]:
        if self._state.open:
            self.harvest()
        verdicts = list(self._received.values())
        self._received.clear()
        return verdicts

    def cancel_all(self) -> None:
        """Tells the sidecar by one word; what it answers to these tickets is dropped."""
        self.harvest()
        self._received.clear()
        self._state.cancelled = self._words[CANCELLED] = (self._state.next_ticket - 1) & MASK

    def collect(self, question: OpenQuestion) -> Verdict:
        """The verdict that is there; with it the question is closed and its frames are free.

        Every number is checked: the sidecar may be of bad faith, or damaged.
        """
        verdict = self._state.collect(question)
        if verdict is not None:
            return verdict
        fields = self._read(question)
        state, ticket = self._state, question.ticket
        del state.open[ticket]
        for at in question.places:
            state.busy[at] -= 1
        if state.value == ticket:
            state.value = None
        return new_verdict(fields)

    def _read(self, question: OpenQuestion) -> tuple[object, ...]:
        now = time.monotonic_ns()
        ticket, kind, episode, step, _, frames, position, asked_ns = question
        _, status, done, valid, value, probability, epoch, queue_us, engine_us, batch, count, _ = unpack_verdict(
            self._verdicts, position * 8
        )
        if status >= len(STATUSES) or done > 1 or valid > 1 or (count and count != frames):
            logger.error("ticket %d: an impossible verdict (status %d, %d values)", ticket, status, count)
            status, done, valid, value, probability, count = FAILED, 0, 0, NAN, NAN, 0
        values = self._values[:count].copy() if count else None
        is_valid = valid == 1 and status == 0
        return (
            ticket,
            kind,
            episode,
            step,
            is_valid and done == 1,
            value,
            probability,
            is_valid,
            STATUSES[status],
            values,
            (now - asked_ns) // 1000,
            queue_us,
            engine_us,
            batch,
            epoch,
        )
