"""The values that cross the bridge: cameras, lanes, kinds of questions, replies, verdicts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shm_bridge.errors import ConfigError

MAX_CAMERAS = 8
MAX_SIDE = 8192
MAX_FRAMES = 65536
MAX_QUESTIONS = 4096
MAX_NAME_BYTES = 40
MAX_CAMERA_BYTES = 24
MAX_TASK_BYTES = 2048
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


class Orientation(IntEnum):
    """How stored rows become an upright image: by strides, never by a copy."""

    UPRIGHT = 0
    FLIP_ROWS = 1
    ROTATE_180 = 2


class Kind(IntEnum):
    """What is asked: about one frame, about a list of frames, about a pair (before, after)."""

    DONE = 1
    VALUE = 2
    CRITIC = 3


class Phase(IntEnum):
    """What the trainer is doing: collecting (the critic answers) or updating (the critic leaves the GPU)."""

    ROLLOUT = 1
    UPDATE = 2


class Status(IntEnum):
    """How a question ended. Only ``OK`` carries numbers that mean something.

    ``INVALID`` is the model's word, and a matter of the asker's policy. ``FAILED`` and ``EXPIRED`` are outages: nothing
    was said about the frame, and it should be asked again.
    """

    OK = 0
    INVALID = 1  # the model replied, but its text (VALUE: the last pair's, or most) could not be read as a number
    CANCELLED = 2
    FAILED = 3  # no reply came: the engine raised, a remote one is gone, the question was impossible
    EXPIRED = 4  # the question's deadline had passed before it was its turn


def checked_name(key: str, value: str, limit: int) -> str:
    """``value`` when it can be a name: letters, digits, ``_ . -``, at most ``limit`` bytes."""
    if not isinstance(value, str) or len(value) > limit or not NAME.fullmatch(value):
        raise ConfigError(f"{key}={value!r}; must be 1 to {limit} letters, digits, '_', '.' or '-'")
    return value


def _check_range(key: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ConfigError(f"{key}={value!r}; must be an integer from {low} to {high}")


@dataclass(frozen=True)
class CameraSpec:
    """One camera's frames: uint8, ``(height, width, channels)``, stored as ``orientation`` says."""

    name: str
    height: int
    width: int
    channels: int = 3
    orientation: Orientation = Orientation.UPRIGHT

    def __post_init__(self) -> None:
        checked_name("camera name", self.name, MAX_CAMERA_BYTES)
        _check_range(f"camera {self.name}: height", self.height, 1, MAX_SIDE)
        _check_range(f"camera {self.name}: width", self.width, 1, MAX_SIDE)
        _check_range(f"camera {self.name}: channels", self.channels, 1, 4)
        if self.orientation not in tuple(Orientation):
            raise ConfigError(f"camera {self.name}: orientation={self.orientation!r}; must be 0, 1 or 2")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)

    @property
    def nbytes(self) -> int:
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class LaneSpec:
    """What one worker needs.

    Attributes:
        cameras: one or more cameras; every frame holds an image of each.
        frames: places for frames; with ``retain`` this bounds an episode (its steps + 1).
        questions: unanswered questions at most; rounded up to a power of two.
        retain: frames stay readable until ``end_episode``; otherwise until their last question is answered.
    """

    cameras: tuple[CameraSpec, ...]
    frames: int
    questions: int = 64
    retain: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.cameras, tuple) or not 1 <= len(self.cameras) <= MAX_CAMERAS:
            raise ConfigError(f"cameras={self.cameras!r}; must be a tuple of 1 to {MAX_CAMERAS} CameraSpec")
        if len({camera.name for camera in self.cameras}) != len(self.cameras):
            raise ConfigError(f"cameras={[camera.name for camera in self.cameras]}; names must differ")
        _check_range("frames", self.frames, 1, MAX_FRAMES)
        _check_range("questions", self.questions, 1, MAX_QUESTIONS)

    @property
    def question_slots(self) -> int:
        return 1 << (self.questions - 1).bit_length()


@dataclass(slots=True)  # not frozen: making one would take five times as long, and each question needs one
class Reply:
    """The answer to one question, as the sidecar gives it: what :meth:`Server.answer` sends.

    Attributes:
        done: DONE: the task is done in the frame.
        value: CRITIC: percent, signed. VALUE: the last of ``values``, whatever is given here. DONE: NaN.
        probability: DONE: of done; CRITIC: of this answer; VALUE: share of its pairs that could be read; or NaN.
        valid: False: no field above may be used as a number.
        values: VALUE only: percent, one for each scored frame; float32 or what becomes it.
        queue_us, engine_us: microseconds waited until the batch was closed, and in the engine with the whole batch;
            cut to 32 bits.
        batch_size: queries of the batch.
    """

    done: bool = False
    value: float = math.nan
    probability: float = math.nan
    valid: bool = True
    status: Status = Status.OK
    values: npt.ArrayLike | None = None
    queue_us: int = 0
    engine_us: int = 0
    batch_size: int = 1


class Verdict(NamedTuple):
    """The answer to one question, as its asker receives it."""

    ticket: int
    kind: Kind
    episode: int
    step: int  # of the question's last frame
    done: bool
    value: float  # CRITIC: percent, signed; VALUE: the last of `values`; DONE, and where there is none: NaN
    probability: float  # DONE: of done; CRITIC: of this answer; VALUE: share of its pairs that could be read; or NaN
    valid: bool  # False: no field above may be used as a number
    status: Status
    values: Float32Array | None  # VALUE only: percent, one per scored frame, the first is 0
    latency_us: int  # from ask() until the answer was seen here
    queue_us: int  # in the sidecar, before its batch was closed
    engine_us: int  # in the engine, its whole batch
    batch_size: int
    epoch: int  # of the sidecar that answered
