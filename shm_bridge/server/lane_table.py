"""All lanes the sidecar serves: which have rung, which came, which died; and what else wakes the sidecar."""

from __future__ import annotations

import logging

import numpy as np

from shm_bridge.backend import chosen
from shm_bridge.errors import SegmentError
from shm_bridge.liveness.cleaning import remove_lane_files
from shm_bridge.liveness.locks import LANES, RunLocks
from shm_bridge.memory.control import Control
from shm_bridge.memory.layout import ServerWord, TrainerWord
from shm_bridge.server.question import Intake, Question
from shm_bridge.server.served_lane import AnswerContext, ServedLane
from shm_bridge.spec import Phase, Status

logger = logging.getLogger(__name__)
Closed = tuple[ServedLane, int, Status]
REQUEST_SEQ, REQUEST_PHASE = int(TrainerWord.REQUEST_SEQ), int(TrainerWord.REQUEST_PHASE)
ACK_SEQ = int(ServerWord.ACK_SEQ)
PHASES = (int(Phase.ROLLOUT), int(Phase.UPDATE))


class LaneScanner:
    """What wakes the sidecar: a lane that rang, a phase the trainer asked for, or a thread of its own.

    Called: whether there is anything new. One comparison of all bells: a look hardly grows with the number of lanes.

    Its native twin takes ordinary questions itself.

    Args:
        bells, generations, server, trainer: words of the control segment.
        intakes: of the lanes that are served, by number; else None.

    Attributes:
        rung: set by the sidecar's own threads.
        others: after :meth:`take`, the numbers of the lanes that rang and whose questions were not taken.
    """

    __slots__ = ("_bells", "_seen", "_server", "_trainer", "_turn", "others", "rung")

    def __init__(
        self,
        bells: memoryview,
        generations: memoryview,
        server: memoryview,
        trainer: memoryview,
        intakes: list[Intake | None],
    ) -> None:
        self._bells, self._server, self._trainer = bells, server, trainer
        self._seen = (np.frombuffer(bells, np.uint64) - np.uint64(1)).tobytes()  # at first every lane has rung
        self._turn = 0
        self.others: list[int] = []
        self.rung = False

    def __call__(self) -> bool:
        return self.rung or self._bells.tobytes() != self._seen or self.phase_pending

    @property
    def phase_pending(self) -> bool:
        trainer = self._trainer
        return trainer[REQUEST_SEQ] != self._server[ACK_SEQ] and trainer[REQUEST_PHASE] in PHASES

    def take(self) -> list[Question]:
        """Marks the lanes that rang as seen; the lane that comes first moves on from call to call."""
        snapshot = self._bells.tobytes()  # before the lanes are read: what comes later rings again
        if snapshot == self._seen:
            self.others = []
            return []
        differ = np.frombuffer(snapshot, np.uint64) != np.frombuffer(self._seen, np.uint64)
        order: list[int] = differ.nonzero()[0].tolist()
        self._seen = snapshot
        split = next((at for at, index in enumerate(order) if index >= self._turn), 0)
        self.others = order[split:] + order[:split]
        self._turn = self.others[0] + 1
        return []

    def close(self) -> None:
        """Lets go of the memory."""


class LaneTable:
    """
    Attributes:
        count: how many lanes the run can have.
        served: by number.
        scanner: which lanes rang.
    """

    def __init__(self, run_id: str, control: Control, locks: RunLocks, context: AnswerContext) -> None:
        self._run_id, self._control, self._locks, self._context = run_id, control, locks, context
        self.count = control.lanes
        self._generations = np.frombuffer(control.generations, np.uint64)
        self.served: dict[int, ServedLane] = {}
        self._intakes: list[Intake | None] = [None] * self.count
        self.scanner = chosen(LaneScanner)(
            control.bells, control.generations, control.server, control.trainer, self._intakes
        )
        self._distrusted: dict[int, int] = {}  # lane -> generation that must not be believed

    def take(self, closed: list[Closed]) -> list[Question]:
        """Of each lane that rang, what it asks; the lane that comes first moves on with every call.

        ``closed`` gets what need not be asked.
        """
        questions = self.scanner.take()
        for index in self.scanner.others:
            generation = self._control.generations[index]
            lane = self.served.get(index)
            if lane is None or lane.generation != generation:
                lane = self._change(index, generation)
            if lane is not None:
                self._take(lane, questions, closed)
        return questions

    def _take(self, lane: ServedLane, questions: list[Question], closed: list[Closed]) -> None:
        try:
            lane.take(questions, closed)
        except SegmentError as error:
            self._distrust(lane.index, lane.generation, error)

    def _change(self, index: int, generation: int) -> ServedLane | None:
        """The lane's row names another generation than the one served."""
        self._drop(index)
        if not generation or self._distrusted.get(index) == generation:
            return None
        self._distrusted.pop(index, None)
        if self._locks.holder(LANES + index) is None:  # dead before it was seen; reap() will take it
            return None
        try:
            lane = self.served[index] = ServedLane(self._run_id, index, generation, self._context)
        except FileNotFoundError:  # gone between its row and its segment
            return None
        except (SegmentError, OSError) as error:  # damaged, or this process may open no more files
            self._distrust(index, generation, error)
            return None
        self._intakes[index] = lane.intake
        logger.info("run %s: lane %d %r attached (generation %d)", self._run_id, index, lane.name, generation)
        return lane

    def _distrust(self, index: int, generation: int, error: Exception) -> None:
        logger.error("run %s: lane %d is not served any more: %s", self._run_id, index, error)
        self._drop(index)
        self._distrusted[index] = generation

    def _drop(self, index: int) -> None:
        lane = self.served.pop(index, None)
        if lane is not None:
            self._intakes[index] = None
            lane.close()
            logger.info("run %s: lane %d %r left", self._run_id, index, lane.name)

    def reap(self) -> int:
        """Takes back lanes whose owner's lock is free; how many."""
        reclaimed = 0
        for index in np.flatnonzero(self._generations).tolist():
            if self._locks.holder(LANES + index) is None and self._locks.acquire(LANES + index):
                try:
                    if self._control.generations[index]:
                        self.clear_row(index)
                        remove_lane_files(self._run_id, index)
                        self._drop(index)
                        reclaimed += 1
                        logger.warning("run %s: the owner of lane %d is dead; reclaimed", self._run_id, index)
                finally:
                    self._locks.release(LANES + index)
        for index in [i for i, lane in self.served.items() if self._control.generations[i] != lane.generation]:
            self._drop(index)
        return reclaimed

    def clear_row(self, index: int) -> None:
        """The caller holds the lane's lock."""
        self._control.generations[index] = 0

    def abandon(self) -> None:
        """Nothing is taken or answered here from now on; in a forked child all of it is the parent's."""
        self.scanner.close()
        for lane in self.served.values():
            lane.abandon()

    def close(self) -> None:
        for index in list(self.served):
            self._drop(index)
        self.scanner.close()
        del self._generations
