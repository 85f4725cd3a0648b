"""Another process's look at a lane: the policy, the inspector. It maps read-only and leaves no trace."""

from __future__ import annotations

from types import TracebackType

from shm_bridge.errors import BridgeClosed, InvalidRequest, LaneNotFound
from shm_bridge.memory.control import Control, ControlRole, open_control
from shm_bridge.memory.lane_memory import LaneMemory, Role, open_lane
from shm_bridge.memory.layout import FrameState, FrameWord
from shm_bridge.names import checked_run_id
from shm_bridge.spec import UInt8Array


class LaneReader:
    """A lane's frames, read-only. Who told this process a frame's index also keeps it retained while it is read."""

    def __init__(self, memory: LaneMemory) -> None:
        self._memory: LaneMemory | None = memory
        self.index, self.generation = memory.identity.index, memory.identity.generation
        self.name, self.spec = memory.identity.name, memory.spec

    @classmethod
    def open(cls, run_id: str, lane_name: str | int) -> LaneReader:
        """By the lane's name or number. Raises ``LaneNotFound``, ``SegmentError``."""
        checked_run_id(run_id)
        try:
            control = open_control(run_id, ControlRole.READER)
        except FileNotFoundError:
            raise LaneNotFound(f"run_id={run_id!r}: there is no such run") from None
        try:
            return cls(_find(control, run_id, lane_name))
        finally:
            control.close()

    @property
    def spec_cameras(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.spec.cameras)

    def view(self, slot_index: int, camera: str | None = None, seq: int | None = None) -> UInt8Array:
        """A published image, upright and read-only, no copy; with ``seq`` only if it is still that very frame.

        Raises:
            InvalidRequest: nothing is published there, or another frame is.
        """
        memory = self._mapped()
        if not 0 <= slot_index < self.spec.frames:
            raise InvalidRequest(f"slot_index={slot_index}; must be 0 to {self.spec.frames - 1}")
        if memory.frame_word(slot_index, FrameWord.STATE) != FrameState.PUBLISHED:
            raise InvalidRequest(f"slot_index={slot_index} of lane {self.name!r} holds no published frame")
        if seq is not None and memory.frame_word(slot_index, FrameWord.SEQ) != seq:
            raise InvalidRequest(f"slot_index={slot_index} of lane {self.name!r} holds another frame than {seq}")
        return memory.view(slot_index, camera)

    def newest(self) -> int | None:
        """Index of the newest published frame; None when there is none."""
        memory = self._mapped()
        published = [
            (memory.frame_word(place, FrameWord.SEQ), place)
            for place in range(self.spec.frames)
            if memory.frame_word(place, FrameWord.STATE) == FrameState.PUBLISHED
        ]
        return max(published)[1] if published else None

    @property
    def memory(self) -> LaneMemory:
        """The mapped segment, for the inspector."""
        return self._mapped()

    def _mapped(self) -> LaneMemory:
        if self._memory is None:
            raise BridgeClosed(f"the reader of lane {self.name!r} was closed")
        return self._memory

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def __enter__(self) -> LaneReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _find(control: Control, run_id: str, wanted: str | int) -> LaneMemory:
    names = []
    for index in range(control.lanes):
        generation = control.generations[index]
        if not generation:
            continue
        try:
            memory = open_lane(run_id, index, generation, Role.READER)
        except FileNotFoundError:
            continue
        if wanted in (memory.identity.name, index, str(index)):
            return memory
        names.append(memory.identity.name)
        memory.close()
    raise LaneNotFound(f"lane={wanted!r} of run_id={run_id!r}; attached are {names}")
