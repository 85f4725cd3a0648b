"""The worker's questions: which are open, writing their records, reading their verdicts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from shm_bridge import layout
from shm_bridge.attachment import Attachment
from shm_bridge.errors import InvalidRequest, QuestionsFull
from shm_bridge.frames import FrameRing, FrameSlot
from shm_bridge.lane_memory import LaneMemory
from shm_bridge.layout import QUESTION, VERDICT, WorkerWord
from shm_bridge.ordering import MASK, at_or_before, publish_fence
from shm_bridge.spec import Kind, Status, Verdict

logger = logging.getLogger(__name__)
WORDS = layout.WORKER_OFFSET // 8
ASKED = WORDS + WorkerWord.ASKED
Ticket = int
NAN = math.nan
STATUSES = {int(status): status for status in Status}


class _Open:
    """A question that the sidecar has not closed yet."""

    __slots__ = ("asked_ns", "count", "dropped", "episode", "kind", "places", "position", "step", "ticket")

    def __init__(
        self, ticket: int, kind: Kind, episode: int, step: int, places: list[int], count: int, position: int, ns: int
    ) -> None:
        self.ticket, self.kind, self.episode, self.step = ticket, kind, episode, step
        self.places, self.count, self.position, self.asked_ns = places, count, position, ns
        self.dropped = False


class Asking:
    """Tickets are consecutive 64-bit numbers; a ticket's place is its low bits. One VALUE may be open at a time."""

    def __init__(self, memory: LaneMemory, ring: FrameRing, attachment: Attachment, first_ticket: int) -> None:
        self._memory, self._ring, self._attachment = memory, ring, attachment
        self._words, self._verdicts = memory.words, memory.verdict_words
        self._part, self._verdict_part = memory.worker_part, memory.verdict_part
        self._slots = memory.spec.question_slots
        self._verdict_base = memory.verdict_base
        self._values = memory.values()
        self._next = first_ticket
        self._open: dict[int, _Open] = {}  # in order of tickets
        self._received: dict[int, Verdict] = {}
        self._value: int | None = None  # the open VALUE question
        self._cancelled = (first_ticket - 1) & MASK

    @property
    def open_count(self) -> int:
        return sum(not question.dropped for question in self._open.values()) + len(self._received)

    def has_room(self, kind: Kind) -> bool:
        """Whether the next ticket's place is free (and the value list, for a VALUE); collects what has come."""
        if (self._next - self._slots) & MASK in self._open or (kind == Kind.VALUE and self._value is not None):
            self.harvest()
            return (self._next - self._slots) & MASK not in self._open and not (
                kind == Kind.VALUE and self._value is not None
            )
        return True

    def wait_for_room(self, kind: Kind, timeout: float, until: Callable[[Callable[[], bool], float], bool]) -> None:
        if not until(lambda: self.has_room(kind), timeout):
            raise QuestionsFull(
                f"{len(self._open)} questions are open after {timeout:g} s; questions={self._slots} in the LaneSpec, "
                "one VALUE at a time"
            )

    def ask(self, kind: Kind, first: FrameSlot, last: FrameSlot, stride: int, deadline: float | None) -> Ticket:
        """Writes the record, its sequence number last, then tells the sidecar."""
        span = last.order - first.order
        if span < 0 or not 1 <= stride < 1 << 32:
            raise InvalidRequest(f"first={first!r}, last={last!r}, stride={stride}: must be in order, stride 1 or more")
        if kind == Kind.DONE:
            places, count = [first.index], 1
        elif kind == Kind.CRITIC:
            places, count = [first.index, last.index], 2
        else:
            places, count = self._ring.places(first, last), -(-span // stride) + 1
        ticket = self._next
        place = ticket & (self._slots - 1)
        now = time.monotonic_ns()
        until = 0 if deadline is None else now + int(deadline * 1e9)
        offset = layout.QUESTIONS_OFFSET + place * 128
        words = self._words
        QUESTION.pack_into(
            self._part, offset, words[offset >> 3], kind, first.episode, first.index, last.index, stride, count,
            first.seq, last.seq, now, until,
        )  # fmt: skip
        publish_fence()
        words[offset >> 3] = ticket
        publish_fence()
        words[ASKED] = ticket
        publish_fence()
        self._attachment.ring()
        position = self._verdict_base + place * layout.VERDICT_WORDS
        self._open[ticket] = _Open(ticket, kind, first.episode, last.step, places, count, position, now)
        self._next = (ticket + 1) & MASK
        busy = self._ring.busy
        for at in places:
            busy[at] += 1
        if kind == Kind.VALUE:
            self._value = ticket
        return ticket

    def is_open(self, ticket: Ticket) -> bool:
        question = self._open.get(ticket)
        return question is not None and not question.dropped

    def was_cancelled(self, ticket: Ticket) -> bool:
        return at_or_before(ticket, self._cancelled)

    def answered(self, ticket: Ticket) -> Callable[[], bool]:
        """A quick look whether the verdict on an open question is there."""
        verdicts, position = self._verdicts, self._open[ticket].position
        return lambda: bool(verdicts[position] == ticket)

    def harvest(self) -> None:
        """Takes over every verdict that has come."""
        verdicts = self._verdicts
        for question in [q for q in self._open.values() if verdicts[q.position] == q.ticket]:
            self._take(question)

    def harvest_one(self, ticket: Ticket) -> None:
        self._take(self._open[ticket])

    def receive(self, ticket: Ticket) -> Verdict | None:
        return self._received.pop(ticket, None)

    def receive_all(self) -> list[Verdict]:
        if self._open:
            self.harvest()
        verdicts = list(self._received.values())
        self._received.clear()
        return verdicts

    def cancel_all(self) -> None:
        """Tells the sidecar by one word; what it answers to these tickets is dropped."""
        self.harvest()
        self._received.clear()
        self._cancelled = (self._next - 1) & MASK
        self._words[WORDS + WorkerWord.CANCELLED] = self._cancelled
        for question in self._open.values():
            question.dropped = True

    def _take(self, question: _Open) -> None:
        now = time.monotonic_ns()
        del self._open[question.ticket]
        busy = self._ring.busy
        for at in question.places:
            busy[at] -= 1
        if self._value == question.ticket:
            self._value = None
        if not question.dropped:
            self._received[question.ticket] = self._read(question, now)

    def _read(self, question: _Open, now: int) -> Verdict:
        """Every number is checked: the sidecar may be of bad faith, or out of its mind."""
        offset = question.position * 8
        _, status, done, valid, value, probability, epoch, queue_us, engine_us, batch, count, _ = VERDICT.unpack_from(
            self._verdict_part, offset
        )
        values = None
        if status not in STATUSES or done > 1 or valid > 1 or count != (question.count if count else 0):
            logger.error("ticket %d: an impossible verdict (status %d, %d values)", question.ticket, status, count)
            status, done, valid, value, probability, count = Status.FAILED, 0, 0, NAN, NAN, 0
        if count:
            values = self._values[:count].copy()
        known = STATUSES[status]
        is_valid = bool(valid) and known is Status.OK
        return Verdict(
            question.ticket, question.kind, question.episode, question.step, bool(done) and is_valid, value,
            probability, is_valid, known, values, (now - question.asked_ns) // 1000, queue_us, engine_us, batch, epoch,
        )  # fmt: skip
