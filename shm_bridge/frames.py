"""The worker's view of its places for frames: which is free, which is retained, which the sidecar still needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shm_bridge.errors import FramesFull, InvalidRequest
from shm_bridge.lane_memory import LaneMemory
from shm_bridge.layout import FrameState, FrameWord
from shm_bridge.ordering import MASK, publish_fence
from shm_bridge.spec import UInt8Array

STATE, SEQ, STEP, EPISODE = (int(word) for word in (FrameWord.STATE, FrameWord.SEQ, FrameWord.STEP, FrameWord.EPISODE))
WRITING, PUBLISHED = int(FrameState.WRITING), int(FrameState.PUBLISHED)
MAX_STEP = 1 << 63


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


class FrameRing:
    """Hands out places in turn. A place is reused when its episode has ended and no open question refers to it."""

    __slots__ = (
        "_base", "_capacity", "_images", "_memory", "_order", "_place", "_retain", "_seal", "_seq", "_slots", "_words",
        "busy", "by_step", "episode", "reserved",
    )  # fmt: skip

    def __init__(self, memory: LaneMemory, first_seq: int) -> None:
        self._memory = memory
        self._words = memory.words
        self._base = memory.frame_base
        self._capacity = memory.spec.frames
        self._retain = memory.spec.retain
        self._images: list[dict[str, UInt8Array] | None] = [None] * self._capacity
        self._seal: list[list[Callable[[bool], None]]] = [[] for _ in range(self._capacity)]  # each image's setflags
        self._slots: list[FrameSlot | None] = [None] * self._capacity  # what of this episode lies in each place
        self._place = 0
        self._seq = first_seq
        self.busy = [0] * self._capacity  # open questions that refer to the place
        self.reserved: FrameSlot | None = None
        self.episode: int | None = None
        self.by_step: dict[int, FrameSlot] = {}
        self._order = 0

    def begin(self, episode: int) -> None:
        self.episode, self._order, self.reserved = episode, 0, None
        self.by_step = {}
        self._slots = [None] * self._capacity

    def end(self) -> None:
        self.episode, self.reserved = None, None
        self.by_step = {}

    def check_room(self) -> None:
        """Raises :class:`FramesFull` when waiting cannot help: the episode itself holds every place."""
        if self._retain and self._order >= self._capacity:
            raise FramesFull(f"the episode has {self._order} frames already; frames={self._capacity} in its LaneSpec")

    @property
    def next_is_free(self) -> bool:
        return not self.busy[self._place]

    def take(self) -> FrameSlot | None:
        """The next place; None when it is not free, or the episode holds them all."""
        place = self._place
        if self.busy[place] or (self._retain and self._order >= self._capacity):
            return None
        images = self._images[place]
        if images is None:
            images = {camera.name: self._memory.stored(place, camera.name) for camera in self._memory.spec.cameras}
            self._images[place] = images
            self._seal[place] = [image.setflags for image in images.values()]
        else:
            for set_writeable in self._seal[place]:
                set_writeable(True)
        old = self._slots[place]
        if old is not None:  # without retention: a frame of this episode, which is gone now
            del self.by_step[old.step]
            self._slots[place] = None
        assert self.episode is not None
        self._words[self._base + place * 4 + STATE] = WRITING
        slot = self.reserved = FrameSlot(place, self._seq, self._order, self.episode, images)
        return slot

    def publish(self, slot: FrameSlot, step: int) -> None:
        """Payload is there; now its record, and the state last."""
        if slot is not self.reserved:
            raise InvalidRequest(f"{slot!r} is not the reserved frame; publish each reserved frame once")
        if not 0 <= step < MAX_STEP:
            raise InvalidRequest(f"step={step}; must be 0 or more")
        if step in self.by_step:
            raise InvalidRequest(f"step={step} of episode {slot.episode} was published already")
        place = slot.index
        words, at = self._words, self._base + place * 4
        slot.step = step
        words[at + STEP] = step
        words[at + EPISODE] = slot.episode
        words[at + SEQ] = slot.seq
        publish_fence()
        words[at + STATE] = PUBLISHED
        for set_writeable in self._seal[place]:
            set_writeable(False)  # through the very arrays the renderer was given
        self.by_step[step] = self._slots[place] = slot
        self.reserved = None
        self._order += 1
        self._seq = (self._seq + 1) & MASK
        self._place = (place + 1) % self._capacity

    def find(self, frame: FrameSlot | int | np.integer[np.typing.NBitBase] | None, key: str) -> FrameSlot:
        """A published frame of this episode, by itself or by its step."""
        if isinstance(frame, FrameSlot):
            if self.by_step.get(frame.step) is frame:
                return frame
        elif frame is not None and int(frame) in self.by_step:
            return self.by_step[int(frame)]
        raise InvalidRequest(f"{key}={frame!r}: not a published frame of episode {self.episode}")

    def places(self, first: FrameSlot, last: FrameSlot) -> tuple[int, ...]:
        """Of all frames from ``first`` to ``last``."""
        return tuple([(first.index + offset) % self._capacity for offset in range(last.order - first.order + 1)])
