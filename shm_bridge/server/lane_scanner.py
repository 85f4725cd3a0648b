"""What wakes the sidecar: a lane that rang, a phase the trainer asked for, or a thread of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from shm_bridge.memory.layout import ServerWord, TrainerWord
from shm_bridge.server.question import Question
from shm_bridge.spec import Phase

REQUEST_SEQ, REQUEST_PHASE = int(TrainerWord.REQUEST_SEQ), int(TrainerWord.REQUEST_PHASE)
ACK_SEQ = int(ServerWord.ACK_SEQ)
PHASES = (int(Phase.ROLLOUT), int(Phase.UPDATE))


class LaneScanner:
    """Called: whether there is anything new. One comparison of all bells: a look hardly grows with the number of lanes.

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
        intakes: list[Any],
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
