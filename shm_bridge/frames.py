"""The worker's view of its places for frames: which is free, which is retained, which the sidecar still needs."""

from __future__ import annotations

import numpy as np

from shm_bridge.errors import FramesFull, InvalidRequest
from shm_bridge.lane_memory import LaneMemory
from shm_bridge.layout import FrameState, FrameWord
from shm_bridge.ledger import Ledger
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

    __slots__ = ("_base", "_books", "_capacity", "_memory", "_retain", "_words")

    def __init__(self, memory: LaneMemory, books: Ledger) -> None:
        self._memory, self._books = memory, books
        self._words = memory.words
        self._base = memory.frame_base
        self._capacity = memory.spec.frames
        self._retain = memory.spec.retain

    def begin(self, episode: int) -> None:
        books = self._books
        books.episode, books.order, books.reserved = episode, 0, None
        books.by_step = {}
        books.slots = [None] * self._capacity

    def end(self) -> None:
        books = self._books
        books.episode, books.reserved = None, None
        books.by_step = {}

    def check_room(self) -> None:
        """Raises :class:`FramesFull` when waiting cannot help: the episode itself holds every place."""
        order = self._books.order
        if self._retain and order >= self._capacity:
            raise FramesFull(f"the episode has {order} frames already; frames={self._capacity} in its LaneSpec")

    @property
    def next_is_free(self) -> bool:
        return not self._books.busy[self._books.place]

    def take(self) -> FrameSlot | None:
        """The next place; None when it is not free, or the episode holds them all."""
        books = self._books
        place = books.place
        if books.busy[place] or (self._retain and books.order >= self._capacity):
            return None
        images = books.images[place]
        if images is None:
            images = {camera.name: self._memory.stored(place, camera.name) for camera in self._memory.spec.cameras}
            books.images[place] = images
            books.seal[place] = [image.setflags for image in images.values()]
        else:
            for set_writeable in books.seal[place]:
                set_writeable(True)
        old = books.slots[place]
        if old is not None:  # without retention: a frame of this episode, which is gone now
            del books.by_step[old.step]
            books.slots[place] = None
        assert books.episode is not None
        self._words[self._base + place * 4 + STATE] = WRITING
        slot = books.reserved = FrameSlot(place, books.seq, books.order, books.episode, images)
        return slot

    def publish(self, slot: FrameSlot, step: int) -> None:
        """Payload is there; now its record, and the state last."""
        books = self._books
        if slot is not books.reserved:
            raise InvalidRequest(f"{slot!r} is not the reserved frame; publish each reserved frame once")
        if not 0 <= step < MAX_STEP:
            raise InvalidRequest(f"step={step}; must be 0 or more")
        if step in books.by_step:
            raise InvalidRequest(f"step={step} of episode {slot.episode} was published already")
        place = slot.index
        words, at = self._words, self._base + place * 4
        slot.step = step
        words[at + STEP] = step
        words[at + EPISODE] = slot.episode
        words[at + SEQ] = slot.seq
        publish_fence()
        words[at + STATE] = PUBLISHED
        for set_writeable in books.seal[place]:
            set_writeable(False)  # through the very arrays the renderer was given
        books.by_step[step] = books.slots[place] = slot
        books.reserved = None
        books.order += 1
        books.seq = (books.seq + 1) & MASK
        books.place = (place + 1) % self._capacity

    def find(self, frame: FrameSlot | int | np.integer[np.typing.NBitBase] | None, key: str) -> FrameSlot:
        """A published frame of this episode, by itself or by its step."""
        by_step = self._books.by_step
        if isinstance(frame, FrameSlot):
            if by_step.get(frame.step) is frame:
                return frame
        elif frame is not None and int(frame) in by_step:
            return by_step[int(frame)]
        raise InvalidRequest(f"{key}={frame!r}: not a published frame of episode {self._books.episode}")

    def places(self, first: FrameSlot, last: FrameSlot) -> tuple[int, ...]:
        """Of all frames from ``first`` to ``last``."""
        return tuple([(first.index + offset) % self._capacity for offset in range(last.order - first.order + 1)])
