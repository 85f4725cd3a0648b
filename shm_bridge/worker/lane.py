"""The worker's side: render into the lane, publish, ask, receive.

    reserve -> (render into it) -> publish -> ask -> ... -> poll | wait
       ^                                                       |
       +---- place is reused: episode ended, questions closed --+

A lane belongs to one process and to one thread of it at a time. A forked child cannot use its parent's lane.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from types import TracebackType

from shm_bridge.backend import chosen
from shm_bridge.errors import (
    BridgeClosed,
    Cancelled,
    ConfigError,
    ForkedProcess,
    InvalidRequest,
    ReserveTimeout,
    VerdictTimeout,
)
from shm_bridge.liveness import forks
from shm_bridge.liveness.attachment import Attachment, Patience
from shm_bridge.memory import layout
from shm_bridge.memory.layout import ServerWord, WorkerWord
from shm_bridge.memory.memory_plan import memory_plan
from shm_bridge.spec import MAX_NAME_BYTES, MAX_TASK_BYTES, Kind, LaneSpec, UInt8Array, Verdict, checked_name
from shm_bridge.sync.ordering import MASK
from shm_bridge.sync.parking import Parking, Sleeper
from shm_bridge.worker.frame_places import FramePlaces
from shm_bridge.worker.lane_files import create_files, remove_files
from shm_bridge.worker.lane_state import FrameSlot, LaneState, OpenQuestion
from shm_bridge.worker.open_questions import OpenQuestions, Ticket

logger = logging.getLogger(__name__)
WORDS = layout.WORKER_OFFSET // 8
PUBLISHED = WORDS + int(WorkerWord.PUBLISHED)
DONE, VALUE, CRITIC = Kind.DONE, Kind.VALUE, Kind.CRITIC


def _ns(seconds: float) -> int:
    return max(int(seconds * 1e9), 0)


class Lane:
    """One worker's lane; made by :meth:`attach`."""

    __slots__ = (
        "__weakref__",
        "_attachment",
        "_closed",
        "_frames",
        "_memory",
        "_parking",
        "_patience",
        "_questions",
        "_semaphore",
        "_state",
        "_words",
        "generation",
        "index",
        "name",
        "run_id",
        "spec",
    )

    def __init__(
        self,
        attachment: Attachment,
        spec: LaneSpec,
        name: str,
        spin_us: float,
        grace: float,
        first_ticket: int,
        first_frame: int,
    ) -> None:
        self._attachment = attachment
        self._closed: type[BridgeClosed] | None = None
        self._patience = Patience(attachment, grace)
        self.run_id, self.name, self.spec = attachment.run_id, name, spec
        self._memory, self._semaphore = create_files(attachment, spec, name, first_ticket, first_frame)
        self.index, self.generation = attachment.index, attachment.generation
        self._words = self._memory.words
        sleeper = chosen(Sleeper)(self._words, WORDS + WorkerWord.PARKED, self._semaphore)
        self._parking = Parking(sleeper, spin_us)
        self._state = state = chosen(LaneState)(
            self._memory, attachment, sleeper, first_ticket, first_frame, int(spin_us * 1000)
        )
        self._frames = FramePlaces(self._memory, state)
        self._questions = OpenQuestions(self._memory, self._frames, attachment, state)
        forks.watch(self)

    @classmethod
    def attach(
        cls,
        run_id: str,
        spec: LaneSpec,
        timeout: float = 10.0,
        name: str | None = None,
        *,
        spin_us: float = 0.0,
        grace: float = 0.5,
        first_ticket: int = 1,
        first_frame: int = 1,
    ) -> Lane:
        """Makes a lane in the run; waits up to ``timeout`` seconds for the run's sidecar.

        Args:
            spin_us: microseconds to poll before sleeping; costs a core while it lasts.
            grace: seconds a wait tolerates a dead sidecar (it may be restarting) before ``SidecarDied``.
            first_ticket, first_frame: where the 64-bit sequence numbers start; for tests.

        Raises:
            SidecarUnreachable, TooManyLanes, NoSpace, SegmentError, ConfigError.
        """
        name = checked_name("lane name", name if name is not None else f"pid-{os.getpid()}", MAX_NAME_BYTES)
        if not isinstance(spec, LaneSpec):
            raise ConfigError(f"spec={spec!r}; must be a LaneSpec")
        attachment = Attachment(run_id, timeout)
        try:
            lane = cls(attachment, spec, name, spin_us, grace, first_ticket & MASK, first_frame & MASK)
        except BaseException:
            attachment.detach()
            raise
        attachment.register()
        logger.info("run %s: lane %d %r: %s", run_id, lane.index, name, memory_plan(spec, 1, attachment.control.lanes))
        return lane

    # --- episodes

    def begin_episode(self, episode: int, task: str) -> None:
        """Frames published from here on are retained until :meth:`end_episode`."""
        self._check_open()
        encoded = task.encode()
        if len(encoded) > MAX_TASK_BYTES:
            raise ConfigError(f"task of {len(encoded)} bytes; must have at most {MAX_TASK_BYTES}")
        if not 0 <= episode < 1 << 63:
            raise ConfigError(f"episode={episode}; must be 0 or more")
        if self._state.episode is not None:
            self.end_episode()
        self._memory.write_task(episode, encoded)
        self._frames.begin(episode)

    def end_episode(self) -> None:
        """Cancels what is still open and gives the episode's frames back."""
        self._check_open()
        self.cancel()
        self._words[WORDS + WorkerWord.ACTIVE] = 0
        self._frames.end()

    # --- frames

    def reserve(self, timeout: float = 5.0) -> FrameSlot:
        """The next frame to render into; the same one again until it is published.

        Waits while the sidecar still needs the place.

        Raises:
            FramesFull: the episode has as many frames as the lane; waiting would not help.
            ReserveTimeout, SidecarDied.
        """
        state = self._state
        slot = state.reserve()
        if slot is not None:
            return slot
        self._check_open()
        frames = self._frames
        if state.episode is None:
            raise InvalidRequest("reserve() outside an episode; call begin_episode() first")
        if state.reserved is not None:
            return state.reserved
        slot = frames.take()
        if slot is None:
            frames.check_room()
            if not self._until(self._place_freed, timeout):
                raise ReserveTimeout(f"lane {self.name!r}: the sidecar still needs the next place after {timeout:g} s")
            slot = frames.take()
            assert slot is not None
        return slot

    def _place_freed(self) -> bool:
        self._questions.harvest()
        return self._frames.next_is_free

    def publish(self, frame: FrameSlot, step: int) -> None:
        """The frame is complete: it can be asked about from now on, and written no more (its arrays turn read-only)."""
        if self._state.publish(frame, step):
            return
        self._check_open()
        self._attachment.bell.announce()  # as a rule it is asked about next: the sidecar wakes meanwhile
        self._frames.publish(frame, step)
        self._words[PUBLISHED] = frame.seq

    def view(self, step: int, camera: str | None = None) -> UInt8Array:
        """A published image of this episode, upright and read-only; no copy. Of the first camera by default."""
        self._check_open()
        return self._memory.view(self._frames.find(step, "step").index, camera)

    # --- questions

    def ask(
        self,
        kind: Kind,
        frame: FrameSlot | int | None = None,
        *,
        first: FrameSlot | int | None = None,
        last: FrameSlot | int | None = None,
        before: FrameSlot | int | None = None,
        after: FrameSlot | int | None = None,
        stride: int = 1,
        timeout: float = 5.0,
        deadline: float | None = None,
    ) -> Ticket:
        """Asks and returns at once; the verdict comes by :meth:`poll` or :meth:`wait`.

        DONE: ``frame``. VALUE: every ``stride``-th frame from ``first`` to ``last``, ``last`` always. CRITIC:
        ``before`` and ``after``. Frames are FrameSlots or steps of this episode.

        Args:
            timeout: seconds to wait while the lane is full of unanswered questions, or a VALUE is still open.
            deadline: seconds after which the sidecar need not answer any more (status EXPIRED).

        Raises:
            QuestionsFull, SidecarDied, InvalidRequest.
        """
        if kind is DONE and stride == 1:
            ticket = self._state.ask(frame, -1 if deadline is None else _ns(deadline))
            if ticket is not None:
                return ticket
        self._check_open()
        self._attachment.bell.announce()  # the sidecar wakes while the question is being written
        first_slot, last_slot = self._frames.asked_about(kind, frame, (first, last), (before, after))
        if not self._questions.has_room(kind):
            self._questions.wait_for_room(kind, timeout, self._until)
        return self._questions.ask(kind, first_slot, last_slot, stride, deadline)

    def poll(self) -> list[Verdict]:
        """All verdicts that have come and were not yet received; never blocks."""
        self._check_open()
        return self._questions.receive_all()

    def wait(self, ticket: Ticket, timeout: float = 5.0) -> Verdict:
        """The verdict on one question. After a timeout or a death the question stays open: wait again, or cancel.

        Raises:
            VerdictTimeout: the sidecar lives but has not answered.
            SidecarDied: it has been dead for ``grace`` seconds; a successor will answer.
            Cancelled, InvalidRequest.
        """
        state = self._state
        verdict = state.receive(ticket, timeout)
        if verdict is not None:
            return verdict
        waited_ns = state.waited_ns
        timeout -= waited_ns * 1e-9
        self._check_open()
        question = self._questions.find_open(ticket)
        if question is None:
            return self._received(ticket)
        answered = state.answered(question.position, ticket)
        if not self._until(answered, timeout, spun=waited_ns > 0):
            raise VerdictTimeout(f"lane {self.name!r}: no verdict on ticket {ticket} within {timeout:g} s")
        return self._questions.collect(question)

    def _received(self, ticket: Ticket) -> Verdict:
        """A verdict that was taken over while something else was waited for."""
        verdict = self._questions.receive(ticket)
        if verdict is not None:
            return verdict
        if self._questions.was_cancelled(ticket):
            raise Cancelled(f"lane {self.name!r}: ticket {ticket} was cancelled")
        raise InvalidRequest(f"ticket={ticket}: not an open question of lane {self.name!r}")

    def cancel(self) -> None:
        """Gives up all open questions: no verdict will come; their frames stay until the sidecar lets go."""
        self._check_open()
        self._questions.cancel_all()

    # --- waiting

    def _until(self, ready: Callable[[], bool], timeout: float, spun: bool = False) -> bool:
        self._patience.reset()
        return self._parking.until(ready, time.monotonic_ns() + int(timeout * 1e9), self._patience.look, spun)

    @property
    def sidecar_alive(self) -> bool:
        """Whether a sidecar's process holds the run's lock now; follows a new one to its control segment."""
        self._check_open()
        return self._attachment.check()

    @property
    def served(self) -> int:
        """Questions of the whole run, of all lanes, to which a reply of the model came: what moves while the sidecar
        works, however long its queue is. A sidecar that replaces a lost control segment counts anew.
        """
        words = self._attachment.control.server
        return int(words[ServerWord.VERDICTS] - words[ServerWord.FAILED])

    @property
    def epoch(self) -> int:
        """Of the sidecar; it grows by one with each restart."""
        return self._attachment.control.epoch

    @property
    def open_questions(self) -> list[OpenQuestion]:
        """Asked, not cancelled, and without a verdict that was seen here; in the order of asking."""
        return self._questions.unanswered

    # --- the end

    def _check_open(self) -> None:
        if self._closed is not None:
            why = "was closed" if self._closed is BridgeClosed else "belongs to the parent of this forked process"
            raise self._closed(f"lane {self.name!r} {why}")

    def close(self) -> None:
        """Removes the lane. Images that were handed out stay readable."""
        if self._closed is not None:
            return
        self._closed = BridgeClosed
        forks.forget(self)
        self._state.close()
        remove_files(self._attachment, self._memory, self._semaphore)

    def _forked(self) -> None:
        self._closed = ForkedProcess
        self._state.close()

    def __enter__(self) -> Lane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
