"""The sidecar's side: find lanes, take questions, answer them.

    wait -> poll -> (the critic) -> answer
One process serves a run; a successor takes its run over with the next epoch and finds every open question again, since
questions lie in the lanes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from shm_bridge.backend import chosen
from shm_bridge.errors import BridgeClosed, ConfigError, FilesRemoved, ForkedProcess
from shm_bridge.liveness import forks
from shm_bridge.liveness.cleaning import remove_if_dead, remove_lane_files
from shm_bridge.liveness.control_recovery import make_room_for_lanes, open_bell, take_over
from shm_bridge.liveness.locks import LANES, SERVER, open_locks
from shm_bridge.memory import segment
from shm_bridge.memory.control import Control
from shm_bridge.memory.header import MAX_LANES
from shm_bridge.memory.layout import ServerWord
from shm_bridge.memory.memory_plan import control_bytes
from shm_bridge.names import SHM, bell_name, checked_run_id, control_name, entries
from shm_bridge.server.counters import Counters
from shm_bridge.server.lane_table import Closed, LaneTable
from shm_bridge.server.question import Question
from shm_bridge.server.served_lane import AnswerContext
from shm_bridge.spec import Phase, Reply
from shm_bridge.sync.ordering import MASK, fence
from shm_bridge.sync.parking import Bell, Parking, Sleeper
from shm_bridge.sync.semaphore import Semaphore

logger = logging.getLogger(__name__)
REAP_NS = 250_000_000
TIDY_AFTER = 256  # questions
QUESTIONS = int(ServerWord.QUESTIONS)


class Server:
    """One run's sidecar end; made by :meth:`create`. ``answer`` may be called from other threads than ``poll``."""

    def __init__(self, run_id: str, max_lanes: int, spin_us: float) -> None:
        self.run_id = run_id
        self._closed: type[BridgeClosed] | None = None
        self._removal_told = False
        self._mutex = threading.Lock()
        self._locks = open_locks(run_id, create=True)
        self._control: Control | None = None
        self._bell: Semaphore | None = None
        try:
            self._locks.claim_server()
            with self._locks.administration():
                self._control = take_over(run_id, max_lanes)
                self._bell = open_bell(run_id, self._control)
        except BaseException:
            self._release()
            raise
        words = self._control.server
        words[ServerWord.PID], words[ServerWord.STARTED_NS] = os.getpid(), time.monotonic_ns()
        self.epoch = self._control.epoch
        self._words = words
        self._counters = Counters(words)
        self._own_bell = chosen(Bell)(words, int(ServerWord.PARKED), self._bell)
        context = AnswerContext(self.epoch, self._counters, words, self._mutex)
        self._lanes = LaneTable(run_id, self._control, self._locks, context)
        self._scanner = self._lanes.scanner
        self._parking = Parking(chosen(Sleeper)(words, int(ServerWord.PARKED), self._bell), spin_us)
        self._reap_at = self._taken = 0
        self._scan_leftovers()
        forks.watch(self)

    @classmethod
    def create(cls, run_id: str, max_lanes: int = 256, *, spin_us: float = 0.0) -> Server:
        """Serves a run; takes over from a dead predecessor with the next epoch.

        Args:
            max_lanes: at most so many lanes at a time.
            spin_us: microseconds to poll before sleeping; costs a core while it lasts.

        Raises:
            RunInUse: a living process serves the run.
            NoSpace, ForeignOwner, ConfigError.
        """
        checked_run_id(run_id)
        if not 1 <= max_lanes <= MAX_LANES:
            raise ConfigError(f"max_lanes={max_lanes}; must be 1 to {MAX_LANES}")
        make_room_for_lanes(max_lanes)
        server = cls(run_id, max_lanes, spin_us)
        logger.info(
            "run %s: epoch %d, %d lanes at most, %d bytes of control",
            run_id,
            server.epoch,
            max_lanes,
            control_bytes(max_lanes),
        )
        return server

    def _scan_leftovers(self) -> None:
        """Segments of lanes that died while nobody served."""
        for lane in {entry.lane for entry in entries(self.run_id) if entry.lane is not None}:
            if self._locks.acquire(LANES + lane):
                try:
                    remove_lane_files(self.run_id, lane)
                    if lane < self._lanes.count:
                        self._lanes.clear_row(lane)
                finally:
                    self._locks.release(LANES + lane)

    # --- questions

    def wait(self, timeout: float) -> bool:
        """Sleeps until a question, a lane, a phase or :meth:`ring` may be there; False after ``timeout`` seconds."""
        if self._closed is not None:
            self._check_open()
        scanner = self._scanner
        found = scanner()
        self._tidy(REAP_NS if found else 0)  # rather when there is nothing to do
        if not found:
            found = self._parking.longer(scanner, time.monotonic_ns() + int(timeout * 1e9), self._reap)
        scanner.rung = False
        return found

    def ring(self) -> None:
        """Ends this server's own :meth:`wait`, from another thread."""
        self._scanner.rung = True
        fence()
        self._own_bell.ring()

    def poll(self) -> list[Question]:
        """New questions of all lanes, round robin over lanes from call to call; never blocks."""
        if self._closed is not None:
            self._check_open()
        closed: list[Closed] = []
        questions = self._lanes.take(closed)
        for lane, ticket, status in closed:
            lane.close_question(ticket, status)
        self._taken += len(questions)
        if not questions or self._taken > TIDY_AFTER:  # else they are answered first, and wait() tidies
            self._tidy(REAP_NS if questions else 0)
        return questions

    def _tidy(self, grace_ns: int = 0) -> None:
        """What must be done now and then, and not while somebody waits for an answer."""
        self._words[QUESTIONS] = (self._words[QUESTIONS] + self._taken) & MASK
        self._taken = 0
        self._reap(grace_ns)

    def _reap(self, grace_ns: int = 0) -> None:
        """Takes back the lanes of dead owners, four times a second; ``grace_ns`` puts it off."""
        now = time.monotonic_ns()
        if now < self._reap_at + grace_ns:
            return
        self._reap_at, self._words[ServerWord.ALIVE_NS] = now + REAP_NS, now
        reclaimed = self._lanes.reap()
        if reclaimed:
            self._counters.add(ServerWord.RECLAIMED, reclaimed)

    def cancelled(self, question: Question) -> bool:
        """Whether nobody waits for the answer any more; answer it all the same, so that its frames come free."""
        return question.served.is_cancelled(question.ticket)

    def answer(self, question: Question, reply: Reply) -> bool:
        """Answers a question once, from any thread; with that its frames are let go.

        Returns:
            False when it came late: answered already, the lane is gone or cancelled the question.

        Raises:
            ValueError: ``reply.values`` has the wrong length, or the question is of a kind that has no list.
        """
        return question.served.answer(question, reply)

    # --- state

    def set_ready(self, ready: bool) -> None:
        """Ready means: the model is loaded and a probe was answered."""
        self._check_open()
        self._words[ServerWord.READY] = self.epoch if ready else 0

    @property
    def lanes(self) -> int:
        """Attached lanes."""
        return len(self._lanes.served)

    def files_removed(self) -> FilesRemoved | None:
        """Once, when somebody removed the run's lock file, control segment or doorbell: nobody finds it any more."""
        assert self._control is not None
        if self._removal_told:
            return None
        bell = SHM / f"sem.{bell_name(self.run_id, self._control.header.instance)[1:]}"
        there = segment.inode(control_name(self.run_id)) == self._control.inode and bell.exists()
        self._removal_told = not (there and self._locks.is_current())
        return FilesRemoved(self.run_id) if self._removal_told else None

    @property
    def requested_phase(self) -> Phase | None:
        """What the trainer asked for last; None when it never did."""
        assert self._control is not None
        _, number = self._control.requested
        return Phase(number) if number in (Phase.ROLLOUT, Phase.UPDATE) else None

    @property
    def phase_pending(self) -> bool:
        """Whether the trainer waits for an acknowledgement."""
        return self._scanner.phase_pending

    def acknowledge_phase(self, phase: Phase) -> None:
        """The phase has been reached. Acknowledges the newest request when it asks for this phase."""
        self._check_open()
        assert self._control is not None
        self._words[ServerWord.ACK_PHASE] = phase
        seq, number = self._control.requested
        if number == phase:
            self._words[ServerWord.ACK_SEQ] = seq

    def publish_metrics(self, metrics: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Shows numbers and short texts to inspectors; 4096 bytes of JSON at most."""
        self._check_open()
        assert self._control is not None
        self._control.publish_metrics({**(metrics or {}), **more})

    # --- the end

    def _check_open(self) -> None:
        if self._closed is not None:
            why = "was closed" if self._closed is BridgeClosed else "belongs to the parent of this forked process"
            raise self._closed(f"the server of run {self.run_id!r} {why}")

    def _forked(self) -> None:
        self._closed = ForkedProcess
        self._lanes.abandon()

    def close(self) -> None:
        """Ends serving. With lanes attached their questions stay for a successor; else nothing of the run is left."""
        if self._closed is ForkedProcess:  # first: in the child the mutex may be held by a thread that is not there
            return
        with self._mutex:
            if self._closed is not None:
                return
            self._closed = BridgeClosed
            self._lanes.abandon()  # no answer is under way, and none is given any more
        forks.forget(self)
        self._words[ServerWord.READY] = 0
        self._own_bell.close()
        self._lanes.close()
        self._release()

    def _release(self) -> None:
        self._locks.release(SERVER)
        remove_if_dead(self.run_id, self._locks)
        if self._control is not None:
            self._control.close()
        if self._bell is not None:
            self._bell.close()
        self._locks.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
