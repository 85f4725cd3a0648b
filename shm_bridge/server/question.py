"""A question as the sidecar sees it, and how far a lane's questions have been taken.

A question's frames are views into the lane: they cost nothing until they are looked at.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

from shm_bridge.memory.lane_memory import LaneMemory
from shm_bridge.spec import Kind, LaneSpec, Reply, UInt8Array
from shm_bridge.sync.parking import Bell

FrameKey = tuple[int, int, int]


class AskingLane(Protocol):
    """What a question needs of the lane that asked it: :class:`~shm_bridge.server.served_lane.ServedLane`."""

    index: int
    generation: int
    name: str
    spec: LaneSpec

    def images(self, places: tuple[int, ...], camera: str | None) -> tuple[UInt8Array, ...]:
        """Upright read-only views."""

    def frame_key(self, place: int, first_seq: int, first_place: int) -> FrameKey:
        """The same for no two frames of a run."""

    def is_cancelled(self, ticket: int) -> bool:
        """Whether nobody waits for the answer any more."""

    def answer(self, question: Question, reply: Reply) -> bool:
        """False when it came late."""


class Question(NamedTuple):
    """One question of one lane.

    Attributes:
        lane, name, generation: who asks; number and generation together are never used twice in a run.
        ticket: the lane's number of the question.
        places: of the frames, in order: DONE one, CRITIC (before, after), VALUE the frames to score, the last included.
        asked_ns, deadline_ns: on ``time.monotonic_ns()``; a deadline of 0 is none.
    """

    served: AskingLane
    ticket: int
    kind: Kind
    episode: int
    task: str
    places: tuple[int, ...]
    steps: tuple[int, ...]
    first_seq: int
    asked_ns: int
    deadline_ns: int

    @property
    def lane(self) -> int:
        return self.served.index

    @property
    def name(self) -> str:
        return self.served.name

    @property
    def generation(self) -> int:
        return self.served.generation

    def images(self, camera: str | None = None) -> tuple[UInt8Array, ...]:
        """One camera's images (the first camera's by default): read-only, upright, ``(H, W, C)`` uint8, no copy."""
        return self.served.images(self.places, camera)

    @property
    def frames(self) -> tuple[dict[str, UInt8Array], ...]:
        """Per frame: camera name -> read-only upright image."""
        cameras = [camera.name for camera in self.served.spec.cameras]
        by_camera = [self.served.images(self.places, name) for name in cameras]
        return tuple(dict(zip(cameras, images)) for images in zip(*by_camera))

    @property
    def frame_keys(self) -> tuple[FrameKey, ...]:
        """Per frame: (lane, generation, sequence number), the same for no two frames of a run: keys for caches."""
        return tuple(self.served.frame_key(place, self.first_seq, self.places[0]) for place in self.places)

    def __repr__(self) -> str:
        return (
            f"Question(lane={self.lane}, name={self.name!r}, ticket={self.ticket}, kind={self.kind.name}, "
            f"episode={self.episode}, steps={self.steps})"
        )


class Intake:
    """How far a lane's questions have been taken.

    Its native twin takes and answers ordinary questions; here these methods leave everything to their callers.

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
