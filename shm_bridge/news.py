"""What wakes the sidecar: a lane that rang, a phase the trainer asked for, or a thread of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from shm_bridge import native
from shm_bridge.control import Control
from shm_bridge.layout import ServerWord, TrainerWord
from shm_bridge.question import Question
from shm_bridge.spec import Phase

REQUEST_SEQ, REQUEST_PHASE = int(TrainerWord.REQUEST_SEQ), int(TrainerWord.REQUEST_PHASE)
ACK_SEQ = int(ServerWord.ACK_SEQ)
PHASES = (int(Phase.ROLLOUT), int(Phase.UPDATE))
Rows = list[Any]


class News:
    """Called: whether there is any. One comparison of all bells: a look hardly grows with the number of lanes.

    The helper has a class of the same attributes, which takes ordinary questions itself.

    Attributes:
        rung: set by the sidecar's own threads.
        others: after :meth:`take`, the numbers of the lanes that rang and were not dealt with.
    """

    __slots__ = ("_control", "_seen", "_turn", "others", "rung")

    def __init__(self, control: Control) -> None:
        self._control = control
        self._seen = (np.frombuffer(control.bells, np.uint64) - np.uint64(1)).tobytes()  # at first every lane has rung
        self._turn = 0
        self.others: list[int] = []
        self.rung = False

    def __call__(self) -> bool:
        return self.rung or self._control.bells.tobytes() != self._seen or self.phase_pending

    @property
    def phase_pending(self) -> bool:
        trainer = self._control.trainer
        return trainer[REQUEST_SEQ] != self._control.server[ACK_SEQ] and trainer[REQUEST_PHASE] in PHASES

    def take(self) -> list[Question]:
        """Marks the lanes with news as seen; the lane that comes first moves on from call to call."""
        snapshot = self._control.bells.tobytes()  # before the lanes are read: what comes later rings again
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


def new_news(control: Control, rows: Rows) -> News:
    """Of the helper, when it is there; ``rows`` has what it serves a lane by, or None, by number."""
    helper = native.helper()
    if helper is None:
        return News(control)
    news: News = helper.News(control.bells, control.generations, control.server, control.trainer, rows)
    return news
