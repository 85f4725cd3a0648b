"""How far a lane's questions have been taken."""

from __future__ import annotations

import threading

from shm_bridge.memory.lane_memory import LaneMemory
from shm_bridge.server.question import AskingLane, Question
from shm_bridge.spec import Reply, UInt8Array
from shm_bridge.sync.parking import Bell


class Intake:
    """Its native twin takes and answers ordinary questions; here these methods leave everything to their callers.

    Attributes:
        taken: the newest ticket; None before the first question, where it is set from the very number that is read.
        task, task_episode, task_seq: as the worker last wrote them.
        views: the first camera's upright images by place, once made.
    """

    __slots__ = ("taken", "task", "task_episode", "task_seq", "views")

    def __init__(
        self,
        lane: AskingLane,
        generation: int,
        memory: LaneMemory,
        bell: Bell,
        counters: memoryview,
        epoch: int,
        mutex: threading.Lock,
    ) -> None:
        self.taken: int | None = None
        self.task, self.task_seq = "", -1
        self.task_episode: int | None = None
        self.views: list[UInt8Array | None] | None = None

    def images(self, places: tuple[int, ...]) -> tuple[UInt8Array, ...] | None:
        """The first camera's, when all of them were made."""

    def answer(self, question: Question, reply: Reply) -> bool | None:
        """True when the verdict is written, its asker woken and the answer counted."""

    def close(self) -> None:
        """The lane's memory is about to go."""
