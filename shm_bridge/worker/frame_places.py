"""The worker's view of its places for frames: which is free, which is retained, which the sidecar still needs."""

from __future__ import annotations

from typing import Union

import numpy as np

from shm_bridge.errors import FramesFull, InvalidRequest
from shm_bridge.memory.lane_memory import LaneMemory
from shm_bridge.memory.layout import FrameState, FrameWord
from shm_bridge.spec import Kind
from shm_bridge.sync.ordering import MASK, publish_fence
from shm_bridge.worker.lane_state import FrameSlot, LaneState

STATE, SEQ, STEP, EPISODE = (int(word) for word in (FrameWord.STATE, FrameWord.SEQ, FrameWord.STEP, FrameWord.EPISODE))
WRITING, PUBLISHED = int(FrameState.WRITING), int(FrameState.PUBLISHED)
MAX_STEP = 1 << 63
FrameName = Union[FrameSlot, int, "np.integer[np.typing.NBitBase]", None]  # itself, or its step


class FramePlaces:
    """Hands out places in turn. A place is reused when its episode has ended and no open question refers to it."""

    __slots__ = ("_base", "_capacity", "_memory", "_retain", "_state", "_words")

    def __init__(self, memory: LaneMemory, state: LaneState) -> None:
        self._memory, self._state = memory, state
        self._words = memory.words
        self._base = memory.frame_base
        self._capacity = memory.spec.frames
        self._retain = memory.spec.retain

    def begin(self, episode: int) -> None:
        state = self._state
        state.episode, state.order, state.reserved = episode, 0, None
        state.by_step = {}
        state.slots = [None] * self._capacity

    def end(self) -> None:
        state = self._state
        state.episode, state.reserved = None, None
        state.by_step = {}

    def check_room(self) -> None:
        """Raises :class:`FramesFull` when waiting cannot help: the episode itself holds every place."""
        order = self._state.order
        if self._retain and order >= self._capacity:
            raise FramesFull(f"the episode has {order} frames already; frames={self._capacity} in its LaneSpec")

    @property
    def next_is_free(self) -> bool:
        return not self._state.busy[self._state.place]

    def take(self) -> FrameSlot | None:
        """The next place; None when it is not free, or the episode holds them all."""
        state = self._state
        place = state.place
        if state.busy[place] or (self._retain and state.order >= self._capacity):
            return None
        images = state.images[place]
        if images is None:
            images = {camera.name: self._memory.stored(place, camera.name) for camera in self._memory.spec.cameras}
            state.images[place] = images
            state.seal[place] = [image.setflags for image in images.values()]
        else:
            for set_writeable in state.seal[place]:
                set_writeable(True)
        old = state.slots[place]
        if old is not None:  # without retention: a frame of this episode, which is gone now
            del state.by_step[old.step]
            state.slots[place] = None
        assert state.episode is not None
        self._words[self._base + place * 4 + STATE] = WRITING
        slot = state.reserved = FrameSlot(place, state.seq, state.order, state.episode, images)
        return slot

    def publish(self, slot: FrameSlot, step: int) -> None:
        """Payload is there; now its record, and the state last."""
        state = self._state
        if slot is not state.reserved:
            raise InvalidRequest(f"{slot!r} is not the reserved frame; publish each reserved frame once")
        if not 0 <= step < MAX_STEP:
            raise InvalidRequest(f"step={step}; must be 0 or more")
        if step in state.by_step:
            raise InvalidRequest(f"step={step} of episode {slot.episode} was published already")
        place = slot.index
        words, at = self._words, self._base + place * 4
        slot.step = step
        words[at + STEP] = step
        words[at + EPISODE] = slot.episode
        words[at + SEQ] = slot.seq
        publish_fence()
        words[at + STATE] = PUBLISHED
        for set_writeable in state.seal[place]:
            set_writeable(False)  # through the very arrays the renderer was given
        state.by_step[step] = state.slots[place] = slot
        state.reserved = None
        state.order += 1
        state.seq = (state.seq + 1) & MASK
        state.place = (place + 1) % self._capacity

    def asked_about(
        self, kind: Kind, frame: FrameName, span: tuple[FrameName, FrameName], pair: tuple[FrameName, FrameName]
    ) -> tuple[FrameSlot, FrameSlot]:
        """First and last frame of a question: DONE ``frame``, VALUE ``span`` (first, last), CRITIC ``pair`` (before,
        after)."""
        if kind == Kind.DONE:
            slot = self.find(frame, "frame")
            return slot, slot
        if kind == Kind.VALUE:
            return self.find(span[0], "first"), self.find(span[1], "last")
        if kind == Kind.CRITIC:
            return self.find(pair[0], "before"), self.find(pair[1], "after")
        raise InvalidRequest(f"kind={kind!r}; must be one of {[str(k) for k in Kind]}")

    def find(self, frame: FrameName, key: str) -> FrameSlot:
        """A published frame of this episode, by itself or by its step."""
        by_step = self._state.by_step
        if isinstance(frame, FrameSlot):
            if by_step.get(frame.step) is frame:
                return frame
        elif frame is not None and int(frame) in by_step:
            return by_step[int(frame)]
        raise InvalidRequest(f"{key}={frame!r}: not a published frame of episode {self._state.episode}")

    def places(self, first: FrameSlot, last: FrameSlot) -> tuple[int, ...]:
        """Of all frames from ``first`` to ``last``."""
        return tuple([(first.index + offset) % self._capacity for offset in range(last.order - first.order + 1)])
