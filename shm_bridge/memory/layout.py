"""Where everything lies: the tables that both sides, the inspector and docs/protocol.md go by.

Control segment (one a run)                     Lane segment (one a worker)
    0     header, constant            creator       0      header, constant              worker
    1024  server words                sidecar       1024   worker words                  worker
    4096  metrics, JSON               sidecar       2048   task text                     worker
    8192  trainer words               trainer       4096   question records (128 B)      worker
    12288 lane tables                 lane i's      ...    frame records (32 B)          worker
                                      lock holder   ...    frames (page-aligned slots)   worker
                                                    ...    sidecar words               } sidecar; page-aligned, so the
                                                    ...    verdict records (128 B)     } worker maps it read-only and
                                                    ...    value list (float32)        } the sidecar maps the rest so
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from shm_bridge.spec import MAX_CAMERAS, MAX_TASK_BYTES, LaneSpec

MAGIC = b"VLACSHM\0"
ABI = 1
PAGE = 4096
LINE = 64
HEADER_BYTES = 1024
CONTROL, LANE = 1, 2  # kinds of segments

# magic, abi, header bytes, layout hash, kind, uid, pid, reserved, total bytes, epoch, creator's start (clock ticks
# since boot), made at (monotonic ns), instance, run id; then the body of the kind; zeros; crc32 of all of it.
HEADER = struct.Struct("<8sIIQIIIIQQQQQ48s")
CONTROL_BODY = struct.Struct("<I")  # lanes
LANE_BODY = struct.Struct("<IIIIIQ40s")  # index, frames, question slots, cameras, retain, generation, name
CAMERA = struct.Struct("<24sIIII")  # name, height, width, channels, orientation
BODY_OFFSET = 192
CAMERAS_OFFSET = 320
CRC_OFFSET = HEADER_BYTES - 4
CRC = struct.Struct("<I")


class ServerWord(IntEnum):
    """Words the sidecar writes, by index from ``SERVER_OFFSET``. ``PARKED`` has a cache line of its own."""

    EPOCH = 0
    READY = 1  # the epoch that is ready, or 0
    PID = 2
    STARTED_NS = 3
    BELL = 4  # instance of the doorbell
    ALIVE_NS = 5
    ACK_SEQ = 6
    ACK_PHASE = 7
    PARKED = 8
    VERDICTS = 16
    QUESTIONS = 17
    INVALID = 18  # of VERDICTS: the model's reply could not be read
    LATE = 19
    RECLAIMED = 20
    REJECTED = 21
    METRICS_SEQ = 22  # odd while the metrics are being written
    METRICS_BYTES = 23
    FAILED = 24  # of VERDICTS: no reply of the model came (an outage, a deadline)
    LATENCY = 32  # 128 counters, quarter powers of two of microseconds
    BATCHES = 160  # 64 counters: batches of n verdicts; the last holds all larger ones
    COUNT = 224


class TrainerWord(IntEnum):
    """Words the trainer writes."""

    REQUEST_SEQ = 0
    REQUEST_PHASE = 1
    COUNT = 2


class WorkerWord(IntEnum):
    """Words of a lane its worker writes."""

    EPISODE = 0
    ACTIVE = 1
    TASK_SEQ = 2  # odd while the task is being written
    TASK_BYTES = 3
    ASKED = 4  # the newest ticket
    CANCELLED = 5  # this ticket and all before it
    PUBLISHED = 6  # the newest frame's sequence number
    PARKED = 8
    COUNT = 16


class QuestionWord(IntEnum):
    """A question's record; ``SEQ`` is written last."""

    SEQ = 0
    KIND = 1
    EPISODE = 2
    FIRST = 3  # places of the frames
    LAST = 4
    STRIDE = 5
    COUNT_FRAMES = 6
    FIRST_SEQ = 7  # sequence numbers of these two frames
    LAST_SEQ = 8
    ASKED_NS = 9
    DEADLINE_NS = 10
    COUNT = 16


class FrameWord(IntEnum):
    """A frame's record; ``STATE`` is written last."""

    STATE = 0
    SEQ = 1
    STEP = 2
    EPISODE = 3
    COUNT = 4


class FrameState(IntEnum):
    """Of one place for a frame."""

    FREE = 0
    WRITING = 1
    PUBLISHED = 2


class SidecarWord(IntEnum):
    """Words of a lane the sidecar writes."""

    ANSWERED = 0
    COUNT = 8


QUESTION = struct.Struct("@11Q")
# seq, status, done, valid, value, probability, epoch, queue us, engine us, batch, values, answered ns
VERDICT = struct.Struct("@QQQQddQQQQQQ")
VERDICT_WORDS = 16

SERVER_OFFSET = HEADER_BYTES
METRICS_OFFSET = PAGE
METRICS_MAX = PAGE
TRAINER_OFFSET = 2 * PAGE
TABLES_OFFSET = 3 * PAGE
SERVER_END = TRAINER_OFFSET

WORKER_OFFSET = HEADER_BYTES
TASK_OFFSET = 2048
QUESTIONS_OFFSET = PAGE


def align(value: int, to: int) -> int:
    return -(-value // to) * to


@dataclass(frozen=True)
class ControlLayout:
    """Offsets in bytes within a control segment for ``lanes`` lanes."""

    lanes: int

    @property
    def table_bytes(self) -> int:
        return align(self.lanes * 8, LINE)

    @property
    def bells(self) -> int:
        """uint64 a lane: its owner adds 1 whenever the sidecar should look."""
        return TABLES_OFFSET

    @property
    def generations(self) -> int:
        """uint64 a lane: the attached generation; 0: none."""
        return TABLES_OFFSET + self.table_bytes

    @property
    def last_generations(self) -> int:
        """uint64 a lane: the newest generation there ever was."""
        return TABLES_OFFSET + 2 * self.table_bytes

    @property
    def total(self) -> int:
        return align(TABLES_OFFSET + 3 * self.table_bytes, PAGE)


@dataclass(frozen=True)
class LaneLayout:
    """Offsets in bytes within a lane's segment."""

    spec: LaneSpec

    @property
    def frame_records(self) -> int:
        return QUESTIONS_OFFSET + self.spec.question_slots * 128

    @property
    def frames(self) -> int:
        return align(self.frame_records + self.spec.frames * FrameWord.COUNT * 8, PAGE)

    @property
    def camera_offsets(self) -> tuple[int, ...]:
        """Of each camera's image within a frame's place."""
        offsets, at = [], 0
        for camera in self.spec.cameras:
            offsets.append(at)
            at = align(at + camera.nbytes, LINE)
        return tuple(offsets)

    @property
    def frame_stride(self) -> int:
        return align(sum(align(camera.nbytes, LINE) for camera in self.spec.cameras), PAGE)

    @property
    def sidecar(self) -> int:
        """Where the sidecar's part starts; a page boundary."""
        return self.frames + self.spec.frames * self.frame_stride

    @property
    def verdicts(self) -> int:
        return self.sidecar + SidecarWord.COUNT * 8

    @property
    def values(self) -> int:
        return self.verdicts + self.spec.question_slots * VERDICT_WORDS * 8

    @property
    def total(self) -> int:
        return align(self.values + self.spec.frames * 4, PAGE)


def _fingerprint() -> int:
    tables = [ServerWord, TrainerWord, WorkerWord, QuestionWord, FrameWord, FrameState, SidecarWord]
    text = repr(
        (
            [[(str(word.name), int(word)) for word in table] for table in tables],
            [s.format for s in (HEADER, CONTROL_BODY, LANE_BODY, CAMERA, QUESTION, VERDICT)],
            (BODY_OFFSET, CAMERAS_OFFSET, SERVER_OFFSET, METRICS_OFFSET, TRAINER_OFFSET, TABLES_OFFSET),
            (WORKER_OFFSET, TASK_OFFSET, QUESTIONS_OFFSET, MAX_CAMERAS, MAX_TASK_BYTES, VERDICT_WORDS, PAGE, LINE),
        )
    )
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


LAYOUT_HASH = _fingerprint()
