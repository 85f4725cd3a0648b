"""All lanes the sidecar serves: which have rung, which came, which died."""

from __future__ import annotations

import logging

import numpy as np

from shm_bridge.cleaning import remove_lane_files
from shm_bridge.control import Control
from shm_bridge.errors import SegmentError
from shm_bridge.locks import LANES, RunLocks
from shm_bridge.question import Question
from shm_bridge.served_lane import ServedLane
from shm_bridge.spec import Status

logger = logging.getLogger(__name__)
Closed = tuple[ServedLane, int, Status]
FEW_LANES = 4
COMPARE_EVERY = 8


class LaneTable:
    """One comparison of all bells finds the lanes with news: the cost of a poll hardly grows with their number."""

    def __init__(self, run_id: str, control: Control, locks: RunLocks) -> None:
        self._run_id, self._control, self._locks = run_id, control, locks
        self.count = control.lanes
        self._bells = control.bells_array()
        self._generations = np.frombuffer(control.generations, np.uint64)
        self._seen_bytes = bytearray((self._bells - np.uint64(1)).tobytes())  # at first every lane counts as rung
        self._seen = memoryview(self._seen_bytes).cast("Q")
        self._snapshot = control.bells.tobytes
        self._turn = self._polls = 0
        self.served: dict[int, ServedLane] = {}
        self._few: tuple[ServedLane, ...] = ()  # all of them, while they are few
        self._distrusted: dict[int, int] = {}  # lane -> generation that must not be believed

    @property
    def watch(self) -> tuple[memoryview, bytearray]:
        """All bells, and what was seen of them last."""
        return self._control.bells, self._seen_bytes

    def has_news(self) -> bool:
        return self._snapshot() != self._seen_bytes

    def take(self, questions: list[Question], closed: list[Closed]) -> None:
        """Of each lane that rang, what it asks; the lane that comes first moves on with every call."""
        self._polls += 1
        if self._few:  # a shorter way; what it passes over is found by a comparison of all bells, now and then
            bells, seen, generations = self._control.bells, self._seen, self._control.generations
            found = False
            for served in self._few:
                index = served.index
                bell = bells[index]  # before the lane is read: what comes later rings again
                if bell != seen[index] and served.generation == generations[index]:
                    seen[index] = bell
                    self._take(served, questions, closed)
                    found = True
            if found and (self._polls % COMPARE_EVERY or not self.has_news()):
                return
        for index in self._rung():
            generation = self._control.generations[index]
            lane = self.served.get(index)
            if lane is None or lane.generation != generation:
                lane = self._change(index, generation)
            if lane is not None:
                self._take(lane, questions, closed)

    def _rung(self) -> list[int]:
        """Lanes with news, which are marked as seen."""
        snapshot = self._snapshot()
        if snapshot == self._seen_bytes:
            return []
        now = np.frombuffer(snapshot, np.uint64)
        order: list[int] = (now != np.frombuffer(self._seen_bytes, np.uint64)).nonzero()[0].tolist()
        self._seen_bytes[:] = snapshot
        if len(order) > 1:
            split = next((at for at, index in enumerate(order) if index >= self._turn), 0)
            order = order[split:] + order[:split]
            self._turn = order[0] + 1
        return order

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
            lane = self.served[index] = ServedLane(self._run_id, index, generation)
        except FileNotFoundError:  # gone between its row and its segment
            return None
        except (SegmentError, OSError) as error:  # damaged, or this process may open no more files
            self._distrust(index, generation, error)
            return None
        self._count()
        logger.info("run %s: lane %d %r attached (generation %d)", self._run_id, index, lane.name, generation)
        return lane

    def _distrust(self, index: int, generation: int, error: Exception) -> None:
        logger.error("run %s: lane %d is not served any more: %s", self._run_id, index, error)
        self._drop(index)
        self._distrusted[index] = generation

    def _count(self) -> None:
        self._few = tuple(self.served.values()) if len(self.served) <= FEW_LANES else ()

    def _drop(self, index: int) -> None:
        lane = self.served.pop(index, None)
        if lane is not None:
            self._count()
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

    def close(self) -> None:
        for index in list(self.served):
            self._drop(index)
        del self._bells, self._generations
