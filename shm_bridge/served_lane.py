"""One lane as the sidecar serves it: reading its questions with suspicion, writing its verdicts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from shm_bridge import layout, native
from shm_bridge.errors import CorruptSegment, SegmentError
from shm_bridge.lane_memory import LaneMemory, Role, open_lane
from shm_bridge.layout import QUESTION, VERDICT, VERDICT_WORDS, FrameState, SidecarWord, WorkerWord
from shm_bridge.names import lane_name
from shm_bridge.ordering import HALF, MASK, at_or_before, publish_fence
from shm_bridge.question import FrameKey, Question
from shm_bridge.semaphore import Semaphore
from shm_bridge.spec import Float32Array, Kind, Reply, Status, UInt8Array
from shm_bridge.waiting import new_bell

ASKED, CANCELLED, PARKED, TASK_SEQ = (
    layout.WORKER_OFFSET // 8 + int(word)
    for word in (WorkerWord.ASKED, WorkerWord.CANCELLED, WorkerWord.PARKED, WorkerWord.TASK_SEQ)
)
KINDS = {int(kind): kind for kind in Kind}
DONE, VALUE = Kind.DONE, Kind.VALUE
PUBLISHED = int(FrameState.PUBLISHED)
ANSWERED = int(SidecarWord.ANSWERED)
QUESTIONS_OFFSET = layout.QUESTIONS_OFFSET
U32 = (1 << 32) - 1
unpack_question, pack_verdict = QUESTION.unpack_from, VERDICT.pack_into
# what NamedTuple makes of a call costs twice as much
new_question: Callable[[tuple[object, ...]], Question] = partial(tuple.__new__, Question)


class Clerk(NamedTuple):
    """What a lane's answers need of its sidecar: its epoch, the words it counts in, and who may answer now."""

    epoch: int
    words: memoryview
    mutex: threading.Lock


class Intake:
    """How far a lane's questions have been taken.

    Attributes:
        taken: the newest ticket; None before the first take(), which sets it from the very number it reads.
        task, task_episode, task_seq: as the worker last wrote them.
    """

    __slots__ = ("taken", "task", "task_episode", "task_seq")

    def __init__(self) -> None:
        self.taken: int | None = None
        self.task, self.task_seq = "", -1
        self.task_episode: int | None = None


class ServedLane:
    """One generation of one lane, and the bell that wakes its worker.

    Attributes:
        closed: the lane is gone; answers to it are late.
        ring: wakes the worker when it is parked.
        quick: the helper's way of taking an ordinary question, and of answering it; None without it.
        intake: what was taken; the helper's own when there is one.
    """

    __slots__ = (
        "_bell",
        "_frame_base",
        "_frames",
        "_question_base",
        "_slots",
        "_values",
        "_verdict_base",
        "_verdicts",
        "_views",
        "_words",
        "closed",
        "generation",
        "index",
        "intake",
        "memory",
        "name",
        "quick",
        "ring",
        "semaphore",
        "spec",
    )

    def __init__(self, run_id: str, index: int, generation: int, clerk: Clerk) -> None:
        self.memory: LaneMemory = open_lane(run_id, index, generation, Role.SIDECAR)
        try:
            self.semaphore = Semaphore(lane_name(run_id, index, generation), create=False)
        except (SegmentError, FileNotFoundError):
            self.memory.close()
            raise
        self._words = self.memory.words
        self._bell = new_bell(self._words, PARKED, self.semaphore)
        self.ring = self._bell.ring
        self.index, self.generation, self.name = index, generation, self.memory.identity.name
        self.spec = self.memory.spec
        self.closed = False
        self._verdicts = self.memory.verdict_words
        self._frame_base, self._verdict_base = self.memory.frame_base, self.memory.verdict_base
        self._question_base, self._frames = self.memory.question_base, self.spec.frames
        self._slots = self.spec.question_slots
        self._values = self.memory.values()
        helper = native.helper()
        self.quick: Any = None
        if helper is not None and isinstance(self._bell, helper.Bell):
            tally = helper.Tally(clerk.words)
            self.quick = helper.Served(self, generation, self.memory, self._bell, tally, clerk.epoch, clerk.mutex)
        self.intake: Intake = Intake() if self.quick is None else self.quick
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
            if self._verdicts[self._verdict_base + place * VERDICT_WORDS] != ticket:
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
        views = self._views.get(camera)
        if views is None:
            self.memory.camera(camera)  # an unknown name is not kept
            views = self._views[camera] = [None] * self._frames
            if camera is None and self.quick is not None:
                self.quick.views = views
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

    def is_open(self, ticket: int) -> bool:
        """Whether a verdict on this ticket would still be the first."""
        if self.closed:
            return False
        place = ticket & (self._slots - 1)
        return (
            self._verdicts[self._verdict_base + place * VERDICT_WORDS] != ticket
            and self._words[self._question_base + place * 16] == ticket
        )

    def write(self, ticket: int, reply: Reply, values: Float32Array | None, epoch: int, now_ns: int) -> None:
        """Payload first, the sequence number last; then the worker may look.

        Args:
            values: the reply's, checked; its ``value`` is then the last of them.
        """
        position = self._verdict_base + (ticket & (self._slots - 1)) * VERDICT_WORDS
        count, value = 0, reply.value
        if values is not None:
            count, value = len(values), float(values[-1])
            self._values[:count] = values
        verdicts = self._verdicts
        pack_verdict(
            verdicts,
            position * 8,
            verdicts[position],
            reply.status,
            bool(reply.done),
            bool(reply.valid),
            value,
            reply.probability,
            epoch,
            in_bounds(reply.queue_us),
            in_bounds(reply.engine_us),
            in_bounds(reply.batch_size),
            count,
            now_ns,
        )
        publish_fence()
        verdicts[position] = ticket
        verdicts[ANSWERED] = (verdicts[ANSWERED] + 1) & MASK

    def close(self) -> None:
        """Late answers are dropped from here on. Unmapped with the last question that still looks into the lane."""
        self.abandon()
        self._views = {}
        self._bell.close()
        self.semaphore.close()

    def abandon(self) -> None:
        """In a forked child: the lane is the parent's to answer."""
        self.closed = True
        if self.quick is not None:
            self.quick.close()


def in_bounds(number: int) -> int:
    """A count or a time as the record holds it."""
    return min(max(int(number), 0), U32)


def checked_values(values: object, count: int, limit: int) -> Float32Array:
    """A value list as float32. Raises ``ValueError`` when it has not one value per scored frame."""
    array = np.asarray(values, np.float32).reshape(-1)
    if len(array) != count or count > limit:
        raise ValueError(f"values has {len(array)} entries; the question has {count} frames")
    return array
