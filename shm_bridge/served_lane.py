"""One lane as the sidecar serves it: reading its questions with suspicion, writing its verdicts."""

from __future__ import annotations

import numpy as np

from shm_bridge import layout
from shm_bridge.errors import CorruptSegment, SegmentError
from shm_bridge.lane_memory import LaneMemory, Role, open_lane
from shm_bridge.layout import QUESTION, VERDICT, VERDICT_WORDS, FrameState, SidecarWord, WorkerWord
from shm_bridge.names import lane_name
from shm_bridge.ordering import HALF, MASK, at_or_before, publish_fence
from shm_bridge.question import FrameKey, Question
from shm_bridge.semaphore import Semaphore
from shm_bridge.spec import Float32Array, Kind, Status, UInt8Array
from shm_bridge.waiting import Bell

WORDS = layout.WORKER_OFFSET // 8
ASKED, CANCELLED, PARKED = WORDS + WorkerWord.ASKED, WORDS + WorkerWord.CANCELLED, WORDS + WorkerWord.PARKED
EPISODE, TASK_SEQ = WORDS + WorkerWord.EPISODE, WORDS + WorkerWord.TASK_SEQ
KINDS = {int(kind): kind for kind in Kind}
PUBLISHED = int(FrameState.PUBLISHED)


class Rejected(Exception):
    """One question makes no sense; the lane itself is sound."""


class ServedLane:
    """One generation of one lane.

    Attributes:
        closed: the lane is gone; answers to it are late.
        ring: wakes the worker when it sleeps; after a fence.
    """

    def __init__(self, run_id: str, index: int, generation: int) -> None:
        self.memory: LaneMemory = open_lane(run_id, index, generation, Role.SIDECAR)
        try:
            self.semaphore = Semaphore(lane_name(run_id, index, generation), create=False)
        except (SegmentError, FileNotFoundError):
            self.memory.close()
            raise
        self.index, self.generation, self.name = index, generation, self.memory.identity.name
        self.spec = self.memory.spec
        self.closed = False
        self.cancelled_seen = 0
        self._words = self.memory.words
        self._verdicts = self.memory.verdict_words
        self._part = self.memory.worker_part
        self._frame_base, self._verdict_base = self.memory.frame_base, self.memory.verdict_base
        self._bell = Bell(self._words, PARKED, self.semaphore)
        self.ring = self._bell.ring
        self._slots = self.spec.question_slots
        self._values = self.memory.values()
        self._taken: int | None = None  # set by the first take(), from the very number it reads
        self._task = ""
        self._task_episode: int | None = None
        self._task_seq = -1
        self._views: dict[tuple[int, str | None], UInt8Array] = {}

    # --- questions

    def take(self, questions: list[Question], closed: list[tuple[ServedLane, int, Status]]) -> None:
        """Adds new questions, and tickets to be closed at once with a status.

        Raises:
            CorruptSegment: what the lane says is impossible; nothing of it may be believed any more.
        """
        asked = self._words[ASKED]
        if self._taken is None:
            self._taken = (asked - self._slots) & MASK  # a predecessor's questions are found again
        new = (asked - self._taken) & MASK
        if new > self._slots:
            raise CorruptSegment(f"lane {self.index} {self.name!r}: {new} new questions; at most {self._slots} fit")
        ticket = self._taken
        for _ in range(new):
            ticket = (ticket + 1) & MASK
            place = ticket & (self._slots - 1)
            if self._verdicts[self._verdict_base + place * VERDICT_WORDS] != ticket:
                self._take_one(ticket, place, questions, closed)
            self._taken = ticket

    def _take_one(
        self, ticket: int, place: int, questions: list[Question], closed: list[tuple[ServedLane, int, Status]]
    ) -> None:
        record = QUESTION.unpack_from(self._part, layout.QUESTIONS_OFFSET + place * 128)
        if record[0] != ticket:
            raise CorruptSegment(f"lane {self.index} {self.name!r}: ticket {ticket} was announced but is not there")
        try:
            if self.is_cancelled(ticket):
                raise Rejected
            questions.append(self._parse(ticket, record))
        except Rejected:
            # a cancel may have come in between: then the worker was free to go on, and nothing is wrong
            closed.append((self, ticket, Status.CANCELLED if self.is_cancelled(ticket) else Status.FAILED))

    def _parse(self, ticket: int, record: tuple[int, ...]) -> Question:
        _, kind_number, episode, first, last, stride, count, first_seq, last_seq, asked_ns, deadline_ns = record
        frames = self.spec.frames
        kind = KINDS.get(kind_number)
        if kind is None or first >= frames or last >= frames or stride < 1 or max(asked_ns, deadline_ns) >= HALF:
            raise Rejected
        if kind_number == 1 and first == last and first_seq == last_seq and count == 1:  # DONE, by far the most
            step = self._published(first, episode, first_seq)
            task = self._task_of(episode)
            return Question(self, ticket, kind, episode, task, (first,), (step,), first_seq, asked_ns, deadline_ns)
        span = (last - first) % frames
        if (first_seq + span) & MASK != last_seq:
            raise Rejected
        if kind is Kind.DONE:
            raise Rejected
        if kind is Kind.CRITIC:
            offsets = [0, span]
        else:
            offsets = list(range(0, span + 1, stride))
            if offsets[-1] != span:
                offsets.append(span)
        if len(offsets) != count:
            raise Rejected
        places = tuple([(first + offset) % frames for offset in offsets])
        steps = tuple([
            self._published(place, episode, (first_seq + offset) & MASK) for place, offset in zip(places, offsets)
        ])  # fmt: skip
        return Question(
            self, ticket, kind, episode, self._task_of(episode), places, steps, first_seq, asked_ns, deadline_ns
        )

    def _published(self, place: int, episode: int, seq: int) -> int:
        """The step of a frame, when it is the very one that was meant."""
        words, at = self._words, self._frame_base + place * 4
        if words[at] != PUBLISHED or words[at + 3] != episode or words[at + 1] != seq:
            raise Rejected
        return words[at + 2]

    def _task_of(self, episode: int) -> str:
        """The task's text; read anew only when the worker has written one."""
        task = self._task if self._words[TASK_SEQ] == self._task_seq else self._read_task()
        if self._task_episode != episode:
            raise Rejected
        return task

    def _read_task(self) -> str:
        seq = self._words[TASK_SEQ]
        found = self.memory.task()
        if found is None:
            raise Rejected
        self._task_episode, self._task = found
        self._task_seq = seq
        return self._task

    def is_cancelled(self, ticket: int) -> bool:
        return self.closed or at_or_before(ticket, self._words[CANCELLED])

    # --- frames

    def image(self, place: int, camera: str | None) -> UInt8Array:
        """An upright read-only view; made once per place and camera."""
        key = (place, camera)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self.memory.view(place, camera)
        return view

    def frame_key(self, place: int, first_seq: int, first_place: int) -> FrameKey:
        return (self.index, self.generation, (first_seq + (place - first_place) % self.spec.frames) & MASK)

    # --- verdicts

    def is_open(self, ticket: int) -> bool:
        """Whether a verdict on this ticket would still be the first."""
        if self.closed:
            return False
        place = ticket & (self._slots - 1)
        seq = self._verdicts[self.memory.verdict_base + place * VERDICT_WORDS]
        return seq != ticket and self._words[self.memory.question_base + place * 16] == ticket

    def write(
        self, ticket: int, status: int, done: bool, valid: bool, value: float, probability: float, epoch: int,
        queue_us: int, engine_us: int, batch: int, values: Float32Array | None, now_ns: int,
    ) -> None:  # fmt: skip
        """Payload first, the sequence number last; then the worker may look."""
        memory = self.memory
        place = ticket & (self._slots - 1)
        position = memory.verdict_base + place * VERDICT_WORDS
        count = 0
        if values is not None:
            count = len(values)
            self._values[:count] = values
        verdicts = self._verdicts
        VERDICT.pack_into(
            memory.verdict_part, position * 8, verdicts[position], status, done, valid, value, probability, epoch,
            queue_us, engine_us, batch, count, now_ns,
        )  # fmt: skip
        publish_fence()
        verdicts[position] = ticket
        verdicts[SidecarWord.ANSWERED] = (verdicts[SidecarWord.ANSWERED] + 1) & MASK

    def close(self) -> None:
        """Late answers are dropped from here on. Unmapped with the last question that still looks into the lane."""
        self.closed = True
        self._views = {}
        self.semaphore.close()


def checked_values(values: object, count: int, limit: int) -> Float32Array:
    """A value list as float32. Raises ``ValueError`` when it has not one value per scored frame."""
    array = np.asarray(values, np.float32).reshape(-1)
    if len(array) != count or count > limit:
        raise ValueError(f"values has {len(array)} entries; the question has {count} frames")
    return array
