"""One lane as the sidecar serves it: reading its questions with suspicion, writing its verdicts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from shm_bridge.backend import chosen
from shm_bridge.errors import CorruptSegment, SegmentError
from shm_bridge.memory import layout
from shm_bridge.memory.lane_memory import LaneMemory, Role, open_lane
from shm_bridge.memory.layout import QUESTION, FrameState, ServerWord, WorkerWord
from shm_bridge.names import lane_name
from shm_bridge.server.counters import Counters
from shm_bridge.server.question import FrameKey, Intake, Question
from shm_bridge.server.verdict_records import VerdictRecords, checked_values, in_bounds
from shm_bridge.spec import Kind, Reply, Status, UInt8Array
from shm_bridge.sync.ordering import HALF, MASK, at_or_before, fence
from shm_bridge.sync.parking import Bell
from shm_bridge.sync.semaphore import Semaphore

ASKED, CANCELLED, PARKED, TASK_SEQ = (
    layout.WORKER_OFFSET // 8 + int(word)
    for word in (WorkerWord.ASKED, WorkerWord.CANCELLED, WorkerWord.PARKED, WorkerWord.TASK_SEQ)
)
KINDS = {int(kind): kind for kind in Kind}
DONE, VALUE = Kind.DONE, Kind.VALUE
PUBLISHED = int(FrameState.PUBLISHED)
QUESTIONS_OFFSET = layout.QUESTIONS_OFFSET
unpack_question = QUESTION.unpack_from
OK = Status.OK
# what NamedTuple makes of a call costs twice as much
new_question: Callable[[tuple[object, ...]], Question] = partial(tuple.__new__, Question)


class AnswerContext(NamedTuple):
    """What a lane's answers need of its sidecar: its epoch, what it counts and where, and who may answer now."""

    epoch: int
    counters: Counters
    words: memoryview
    mutex: threading.Lock


class ServedLane:
    """One generation of one lane, and the bell that wakes its worker.

    Attributes:
        closed: the lane is gone; answers to it are late.
        ring: wakes the worker when it is parked.
        intake: what was taken; its native twin takes and answers ordinary questions.
    """

    __slots__ = (
        "_bell",
        "_context",
        "_frame_base",
        "_frames",
        "_question_base",
        "_slots",
        "_verdicts",
        "_views",
        "_words",
        "closed",
        "generation",
        "index",
        "intake",
        "memory",
        "name",
        "ring",
        "semaphore",
        "spec",
    )

    def __init__(self, run_id: str, index: int, generation: int, context: AnswerContext) -> None:
        self.memory: LaneMemory = open_lane(run_id, index, generation, Role.SIDECAR)
        try:
            self.semaphore = Semaphore(lane_name(run_id, index, generation), create=False)
        except (SegmentError, FileNotFoundError):
            self.memory.close()
            raise
        self._words = self.memory.words
        self._bell = chosen(Bell)(self._words, PARKED, self.semaphore)
        self.ring = self._bell.ring
        self.index, self.generation, self.name = index, generation, self.memory.identity.name
        self.spec = self.memory.spec
        self.closed = False
        self._context = context
        self._verdicts = VerdictRecords(self.memory, context.epoch)
        self._frame_base, self._question_base = self.memory.frame_base, self.memory.question_base
        self._frames, self._slots = self.spec.frames, self.spec.question_slots
        self.intake = chosen(Intake)(
            self, generation, self.memory, self._bell, context.words, context.epoch, context.mutex
        )
        self._views: dict[str | None, list[UInt8Array | None]] = {}  # by camera, then place

    # --- questions

    def take(self, questions: list[Question], closed: list[tuple[ServedLane, int, Status]]) -> None:
        """Adds new questions, and tickets to be closed at once with a status.

        Raises:
            CorruptSegment: what the lane says is impossible; nothing of it may be believed any more.
        """
        ticket = self.intake.taken
        asked, slots = self._words[ASKED], self._slots
        if ticket is None:
            ticket = (asked - slots) & MASK  # a predecessor's questions are found again
        if asked != ticket + 1 and (asked - ticket) & MASK > slots:
            raise CorruptSegment(f"lane {self.index} {self.name!r}: more new questions than the {slots} that fit")
        while ticket != asked:
            ticket = (ticket + 1) & MASK
            place = ticket & (slots - 1)
            if not self._verdicts.holds(ticket):
                record = unpack_question(self._words, QUESTIONS_OFFSET + place * 128)
                if record[0] != ticket:
                    raise CorruptSegment(f"lane {self.index} {self.name!r}: ticket {ticket} was announced, not asked")
                cancelled = (self._words[CANCELLED] - ticket) & MASK < HALF
                question = None if cancelled else self._parse(ticket, record)
                if question is not None:
                    questions.append(question)
                else:  # a cancel may have come in between: then the worker was free to go on, and nothing is wrong
                    closed.append((self, ticket, Status.CANCELLED if self.is_cancelled(ticket) else Status.FAILED))
            self.intake.taken = ticket

    def _parse(self, ticket: int, record: tuple[int, ...]) -> Question | None:
        """None when the question makes no sense; the lane itself is sound."""
        _, kind_number, episode, first, last, stride, count, first_seq, last_seq, asked_ns, deadline_ns = record
        frames = self._frames
        kind = KINDS.get(kind_number)
        if kind is None or first >= frames or last >= frames or stride < 1 or asked_ns >= HALF or deadline_ns >= HALF:
            return None
        words = self._words
        task = self.intake.task if words[TASK_SEQ] == self.intake.task_seq else self._read_task()
        if self.intake.task_episode != episode:
            return None
        if kind is DONE and first == last and first_seq == last_seq and count == 1:  # by far the most
            at = self._frame_base + first * 4
            step = words[at + 2]
            if words[at] != PUBLISHED or words[at + 3] != episode or words[at + 1] != first_seq:
                return None
            return new_question(
                (self, ticket, kind, episode, task, (first,), (step,), first_seq, asked_ns, deadline_ns)
            )
        span = (last - first) % frames
        if (first_seq + span) & MASK != last_seq or kind is DONE:
            return None
        offsets = [0, span]
        if kind is VALUE:
            offsets = list(range(0, span + 1, stride))
            if offsets[-1] != span:
                offsets.append(span)
        if len(offsets) != count:
            return None
        places = tuple([(first + offset) % frames for offset in offsets])
        steps = []
        for place, offset in zip(places, offsets):
            at = self._frame_base + place * 4
            steps.append(words[at + 2])
            if words[at] != PUBLISHED or words[at + 3] != episode or words[at + 1] != (first_seq + offset) & MASK:
                return None
        return Question(self, ticket, kind, episode, task, places, tuple(steps), first_seq, asked_ns, deadline_ns)

    def _read_task(self) -> str:
        """The task's text and its episode; read only when the worker has written one."""
        seq = self._words[TASK_SEQ]
        found = self.memory.task()
        if found is None:
            self.intake.task_episode, self.intake.task_seq = None, -1
        else:
            self.intake.task_episode, self.intake.task = found
            self.intake.task_seq = seq
        return self.intake.task

    def is_cancelled(self, ticket: int) -> bool:
        return self.closed or at_or_before(ticket, self._words[CANCELLED])

    # --- frames

    def images(self, places: tuple[int, ...], camera: str | None) -> tuple[UInt8Array, ...]:
        """Upright read-only views; made once per place and camera."""
        if camera is None:
            known = self.intake.images(places)
            if known is not None:
                return known
        views = self._views.get(camera)
        if views is None:
            self.memory.camera(camera)  # an unknown name is not kept
            views = self._views[camera] = [None] * self._frames
            if camera is None:
                self.intake.views = views
        images = []
        for place in places:
            view = views[place]
            if view is None:
                view = views[place] = self.memory.view(place, camera)
            images.append(view)
        return tuple(images)

    def frame_key(self, place: int, first_seq: int, first_place: int) -> FrameKey:
        return (self.index, self.generation, (first_seq + (place - first_place) % self.spec.frames) & MASK)

    # --- verdicts

    def answer(self, question: Question, reply: Reply) -> bool:
        """As :meth:`Server.answer <shm_bridge.server.server.Server.answer>`."""
        if self.intake.answer(question, reply):
            return True
        if not self.closed:
            self.ring()  # early: the worker wakes while the verdict is being written
        values = checked_values(question, reply)
        now, ticket, counters = time.monotonic_ns(), question.ticket, self._context.counters
        with self._context.mutex:
            if not self._is_open(ticket):
                counters.add(ServerWord.LATE)
                return False
            late = self.is_cancelled(ticket)
            if late:
                reply, values = replace(reply, status=Status.CANCELLED, valid=False), None
            self._verdicts.write(ticket, reply, values, now)
            fence()
            self.ring()
            good = reply.valid and reply.status == OK
            counters.verdict(now - question.asked_ns, good, Status(reply.status), in_bounds(reply.batch_size))
        return not late

    def close_question(self, ticket: int, status: Status) -> None:
        """One that nobody need be asked: cancelled before it was seen, or impossible."""
        with self._context.mutex:
            if status is Status.FAILED:
                self._context.counters.add(ServerWord.REJECTED)
            self._verdicts.write(ticket, Reply(valid=False, status=status, batch_size=0), None, time.monotonic_ns())
        fence()
        self.ring()

    def _is_open(self, ticket: int) -> bool:
        """Whether a verdict on this ticket would still be the first."""
        if self.closed or self._verdicts.holds(ticket):
            return False
        return self._words[self._question_base + (ticket & (self._slots - 1)) * 16] == ticket

    def close(self) -> None:
        """Late answers are dropped from here on. Unmapped with the last question that still looks into the lane."""
        self.abandon()
        self._views = {}
        self._bell.close()
        self.semaphore.close()

    def abandon(self) -> None:
        """Nothing is answered here from now on; in a forked child the lane is the parent's."""
        self.closed = True
        self.intake.close()
