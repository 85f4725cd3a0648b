"""A lane's segment as words and arrays, mapped for one role: each side may write its own part only."""

from __future__ import annotations

import contextlib
import os
import struct
from enum import Enum

import numpy as np

from shm_bridge.errors import ConfigError, WrongRun
from shm_bridge.memory import header, layout, segment
from shm_bridge.memory.header import Header, LaneIdentity
from shm_bridge.memory.layout import FrameWord, LaneLayout, QuestionWord, WorkerWord
from shm_bridge.names import lane_name
from shm_bridge.spec import MAX_TASK_BYTES, CameraSpec, Float32Array, LaneSpec, Orientation, UInt8Array
from shm_bridge.sync.ordering import MASK


class Role(Enum):
    """Who maps a lane."""

    WORKER = "worker"
    SIDECAR = "sidecar"
    READER = "reader"


def upright(stored: UInt8Array, orientation: Orientation) -> UInt8Array:
    """A view the right way up: strides, no copy."""
    if orientation == Orientation.FLIP_ROWS:
        return stored[::-1]
    if orientation == Orientation.ROTATE_180:
        return stored[::-1, ::-1]
    return stored


def initial_seq(place: int, first_ticket: int, slots: int) -> int:
    """What question place ``place`` holds before its first use: the ticket one lap before its first."""
    return (first_ticket - 1 - ((first_ticket - 1 - place) % slots)) & MASK


def create_lane(
    run_id: str, identity: LaneIdentity, epoch: int, first_ticket: int = 1, first_frame: int = 1
) -> LaneMemory:
    """Makes a lane's segment, every word of it in its first state. The caller holds the lane's lock.

    Raises:
        NoSpace: /dev/shm is too full.
    """
    name = lane_name(run_id, identity.index, identity.generation)
    segment.unlink(name)  # only the holder of the lane's lock may make it: what is there is a dead owner's
    spec = identity.spec
    plan = LaneLayout(spec)
    fd = segment.create(name, plan.total, f"lane {identity.name!r} ({spec.frames} frames)")
    try:
        instance = int.from_bytes(os.urandom(8), "little")
        slots = spec.question_slots
        for place in range(slots):
            word = struct.pack("@Q", initial_seq(place, first_ticket, slots))
            os.pwrite(fd, word, layout.QUESTIONS_OFFSET + place * 128)
            os.pwrite(fd, word, plan.verdicts + place * 128)
        words = [0] * WorkerWord.COUNT
        words[WorkerWord.ASKED] = words[WorkerWord.CANCELLED] = (first_ticket - 1) & MASK
        words[WorkerWord.PUBLISHED] = (first_frame - 1) & MASK
        os.pwrite(fd, struct.pack(f"@{len(words)}Q", *words), layout.WORKER_OFFSET)
        os.pwrite(fd, header.pack_lane(run_id, identity, epoch, instance), 0)
        return LaneMemory(
            fd,
            header.Header(run_id, plan.total, epoch, os.geteuid(), os.getpid(), header.process_start(), 0, instance),
            identity,
            Role.WORKER,
        )
    except BaseException:
        segment.unlink(name)
        raise
    finally:
        os.close(fd)


def open_lane(run_id: str, index: int, generation: int, role: Role) -> LaneMemory:
    """Opens and checks a lane's segment.

    Raises:
        FileNotFoundError: it is not there.
        SegmentError: it must not be trusted.
    """
    name = lane_name(run_id, index, generation)

    def unpack(block: bytes, size: int) -> tuple[Header, LaneIdentity]:
        found, identity = header.unpack_lane(block, run_id, size, f"segment {name}")
        if (identity.index, identity.generation) != (index, generation):
            raise WrongRun(f"segment {name} says it is lane {identity.index} generation {identity.generation:x}")
        return found, identity

    fd, (found, identity) = segment.open_checked(name, unpack, write=role is Role.SIDECAR)
    try:
        return LaneMemory(fd, found, identity, role)
    finally:
        os.close(fd)


class LaneMemory:
    """Mappings of one lane.

    Attributes:
        words: uint64 words of the worker's part; ``words[worker_word(...)]`` and the record accessors index it.
        verdict_words: uint64 words of the sidecar's part.
        verdict_part: the sidecar's part as bytes, for ``struct``.
    """

    def __init__(self, fd: int, found: Header, identity: LaneIdentity, role: Role) -> None:
        self.header, self.identity, self.role = found, identity, role
        self.spec: LaneSpec = identity.spec
        self.layout = plan = LaneLayout(self.spec)
        self._worker = segment.map_part(fd, 0, plan.sidecar, write=role is Role.WORKER, populate=role is Role.WORKER)
        self._sidecar = segment.map_part(fd, plan.sidecar, plan.total - plan.sidecar, write=role is Role.SIDECAR)
        self.worker_part = memoryview(self._worker)
        self.words = self.worker_part[: plan.frames].cast("Q")
        self.verdict_part = memoryview(self._sidecar)
        self.verdict_words = self.verdict_part.cast("Q")
        self.question_base = layout.QUESTIONS_OFFSET // 8
        self.frame_base = plan.frame_records // 8
        self.verdict_base = (plan.verdicts - plan.sidecar) // 8
        self._cameras = {camera.name: number for number, camera in enumerate(self.spec.cameras)}

    def frame_word(self, place: int, word: FrameWord) -> int:
        return self.words[self.frame_base + place * FrameWord.COUNT + word]

    def question_word(self, place: int, word: QuestionWord) -> int:
        return self.words[self.question_base + place * QuestionWord.COUNT + word]

    def verdict_seq(self, place: int) -> int:
        return self.verdict_words[self.verdict_base + place * layout.VERDICT_WORDS]

    def camera(self, name: str | None) -> tuple[int, CameraSpec]:
        """Number and specification of a camera; of the first when ``name`` is None."""
        number = 0 if name is None else self._cameras.get(name)
        if number is None:
            raise ConfigError(f"camera={name!r}; this lane has {sorted(self._cameras)}")
        return number, self.spec.cameras[number]

    def stored(self, place: int, name: str | None = None) -> UInt8Array:
        """A camera's image as it lies in memory; writable for the worker alone."""
        number, camera = self.camera(name)
        offset = self.layout.frames + place * self.layout.frame_stride + self.layout.camera_offsets[number]
        flat = np.frombuffer(self._worker, np.uint8, camera.nbytes, offset)
        return flat.reshape(camera.shape)

    def view(self, place: int, name: str | None = None) -> UInt8Array:
        """A camera's image, upright and read-only."""
        _, camera = self.camera(name)
        image = upright(self.stored(place, name), camera.orientation)
        image.flags.writeable = False
        return image

    def values(self) -> Float32Array:
        """The sidecar's value list; writable for the sidecar alone."""
        offset = self.layout.values - self.layout.sidecar
        return np.frombuffer(self._sidecar, np.float32, self.spec.frames, offset)

    def write_task(self, episode: int, task: bytes) -> None:
        """Task and number of the episode that begins; its sequence is odd meanwhile."""
        words, base = self.words, layout.WORKER_OFFSET // 8
        seq = words[base + WorkerWord.TASK_SEQ]
        words[base + WorkerWord.TASK_SEQ] = (seq | 1) & MASK
        self.worker_part[layout.TASK_OFFSET : layout.TASK_OFFSET + len(task)] = task
        words[base + WorkerWord.TASK_BYTES] = len(task)
        words[base + WorkerWord.EPISODE] = episode
        words[base + WorkerWord.ACTIVE] = 1
        words[base + WorkerWord.TASK_SEQ] = ((seq | 1) + 1) & MASK

    def task(self, attempts: int = 64) -> tuple[int, str] | None:
        """(episode, task) as the worker last wrote them; None when it is writing, or died writing."""
        words = self.words
        base = layout.WORKER_OFFSET // 8
        for _ in range(attempts):
            seq = words[base + WorkerWord.TASK_SEQ]
            size = words[base + WorkerWord.TASK_BYTES]
            if seq & 1 or size > MAX_TASK_BYTES:
                continue
            episode = words[base + WorkerWord.EPISODE]
            text = bytes(self.worker_part[layout.TASK_OFFSET : layout.TASK_OFFSET + size])
            if words[base + WorkerWord.TASK_SEQ] == seq:
                return episode, text.decode("utf-8", errors="replace")
        return None

    def close(self) -> None:
        """Drops the mappings; images that were handed out stay readable."""
        for view in (self.words, self.worker_part, self.verdict_words, self.verdict_part):
            with contextlib.suppress(BufferError):
                view.release()
        segment.close_map(self._worker)
        segment.close_map(self._sidecar)
