"""What a worker keeps of its lane in its own memory: the books of its frames and of its questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from shm_bridge import native
from shm_bridge.ordering import MASK
from shm_bridge.spec import Kind, UInt8Array
from shm_bridge.waiting import Sleeper

if TYPE_CHECKING:
    from shm_bridge.attachment import Attachment
    from shm_bridge.frames import FrameSlot
    from shm_bridge.lane_memory import LaneMemory


class Open(NamedTuple):
    """A question that the sidecar has not closed yet."""

    ticket: int
    kind: Kind
    episode: int
    step: int
    places: tuple[int, ...]
    frames: int  # to be scored
    position: int  # of its verdict, in words
    asked_ns: int


class Ledger:
    """The helper has a class of the same attributes, whose methods go the ordinary question's way.

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
    """

    __slots__ = (
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
        "slots",
        "value",
    )

    def __init__(self, capacity: int, first_ticket: int, first_frame: int) -> None:
        self.capacity = capacity
        self.place, self.seq, self.order = 0, first_frame, 0
        self.episode: int | None = None
        self.reserved: FrameSlot | None = None
        self.by_step: dict[int, FrameSlot] = {}
        self.slots: list[FrameSlot | None] = [None] * capacity
        self.images: list[dict[str, UInt8Array] | None] = [None] * capacity
        self.seal: list[list[Callable[[bool], None]]] = [[] for _ in range(capacity)]
        self.busy = [0] * capacity
        self.next_ticket, self.cancelled = first_ticket, (first_ticket - 1) & MASK
        self.open: dict[int, Open] = {}
        self.value: int | None = None


def new_ledger(
    memory: LaneMemory, attachment: Attachment, sleeper: Sleeper, first_ticket: int, first_frame: int, spin_us: float
) -> Ledger:
    """Of the helper, when it is there."""
    helper = native.helper()
    if helper is None or isinstance(sleeper, Sleeper):
        return Ledger(memory.spec.frames, first_ticket, first_frame)
    ledger: Ledger = helper.Ledger(memory, attachment, sleeper, first_ticket, first_frame, int(spin_us * 1000))
    return ledger
