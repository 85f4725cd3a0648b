"""What a worker keeps of its lane in its own memory: where its frames lie, and which questions are open."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shm_bridge.liveness.attachment import Attachment
from shm_bridge.memory.lane_memory import LaneMemory
from shm_bridge.spec import Kind, UInt8Array, Verdict
from shm_bridge.sync.ordering import MASK
from shm_bridge.sync.parking import Ready, Sleeper


class FrameSlot:
    """One reserved or published frame: ``slot["camera"]`` is its image as stored, ``(H, W, C)`` uint8.

    Attributes:
        index: its place in the lane, for :class:`~shm_bridge.reader.LaneReader`.
        seq: sequence number, modulo 2**64; never the same for two frames of a lane.
        order: how many frames the episode had before.
        step: as published; -1 before.
        episode: as begun.
    """

    __slots__ = ("_images", "episode", "index", "order", "seq", "step")

    def __init__(self, index: int, seq: int, order: int, episode: int, images: dict[str, UInt8Array]) -> None:
        self.index, self.seq, self.order, self.episode = index, seq, order, episode
        self.step = -1
        self._images = images

    def __getitem__(self, camera: str) -> UInt8Array:
        return self._images[camera]

    def __repr__(self) -> str:
        return f"FrameSlot(index={self.index}, episode={self.episode}, step={self.step})"


class OpenQuestion(NamedTuple):
    """A question that the sidecar has not closed yet."""

    ticket: int
    kind: Kind
    episode: int
    step: int
    places: tuple[int, ...]
    frames: int  # to be scored
    position: int  # of its verdict, in words
    asked_ns: int


class LaneState:
    """Its native twin goes the ordinary question's way; here these methods leave everything to their callers.

    Attributes:
        place, seq, order: of the next frame: where it will lie, its number, how many the episode had before.
        episode, reserved: as begun, and the frame handed out; None when there is none.
        by_step: this episode's published frames.
        slots: what of this episode lies in each place.
        images, seal: each place's arrays, once made, and their ``setflags``.
        busy: how many open questions refer to each place.
        next_ticket, cancelled: the next question's number; this ticket and all before it are given up.
        open: questions without a verdict, in order of tickets.
        value: the ticket of the open VALUE question.
        waited_ns: how long the last :meth:`receive` took that said None.
    """

    __slots__ = (
        "_verdicts",
        "busy",
        "by_step",
        "cancelled",
        "capacity",
        "episode",
        "images",
        "next_ticket",
        "open",
        "order",
        "place",
        "reserved",
        "seal",
        "seq",
        "sleeper",
        "slots",
        "value",
        "waited_ns",
    )

    def __init__(
        self,
        memory: LaneMemory,
        attachment: Attachment,
        sleeper: Sleeper,
        first_ticket: int,
        first_frame: int,
        spin_ns: int,
    ) -> None:
        self._verdicts, self.sleeper = memory.verdict_words, sleeper
        self.capacity = capacity = memory.spec.frames
        self.place, self.seq, self.order = 0, first_frame, 0
        self.episode: int | None = None
        self.reserved: FrameSlot | None = None
        self.by_step: dict[int, FrameSlot] = {}
        self.slots: list[FrameSlot | None] = [None] * capacity
        self.images: list[dict[str, UInt8Array] | None] = [None] * capacity
        self.seal: list[list[Callable[[bool], None]]] = [[] for _ in range(capacity)]
        self.busy = [0] * capacity
        self.next_ticket, self.cancelled = first_ticket, (first_ticket - 1) & MASK
        self.open: dict[int, OpenQuestion] = {}
        self.value: int | None = None
        self.waited_ns = 0

    def reserve(self) -> FrameSlot | None:
        """The next frame's slot, its arrays writeable."""

    def publish(self, slot: FrameSlot, step: int) -> bool | None:
        """True when the frame is published."""

    def ask(self, frame: object, lasts_ns: int) -> int | None:
        """A DONE question about a published frame, or the frame of a step; its ticket.

        Args:
            lasts_ns: until its deadline; -1 for none.
        """

    def receive(self, ticket: int, timeout: float) -> Verdict | None:
        """The verdict on a question; waits for it, at most a slice."""

    def collect(self, question: OpenQuestion) -> Verdict | None:
        """The verdict that is there; with it the question is closed and its frames are free."""

    def answered(self, position: int, ticket: int) -> Ready:
        """A short look whether the verdict record at ``position`` is of this ticket."""
        verdicts = self._verdicts
        return lambda: verdicts[position] == ticket

    def close(self) -> None:
        """The lane's memory is about to go."""
