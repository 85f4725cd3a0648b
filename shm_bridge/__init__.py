"""Shared-memory bridge between rollout workers and a critic's sidecar: frames in place, questions, verdicts."""

from shm_bridge.adapter import CriticAdapter
from shm_bridge.controller import Controller
from shm_bridge.errors import (
    BadMagic,
    BridgeClosed,
    BridgeError,
    BridgeTimeout,
    Cancelled,
    ConfigError,
    CorruptSegment,
    ForeignOwner,
    ForkedProcess,
    FramesFull,
    InvalidRequest,
    LaneNotFound,
    LayoutMismatch,
    NoSpace,
    PhaseTimeout,
    QuestionsFull,
    ReserveTimeout,
    RunInUse,
    SegmentError,
    SidecarDied,
    SidecarUnreachable,
    TooManyLanes,
    VerdictTimeout,
    VersionMismatch,
    WrongRun,
)
from shm_bridge.memory.memory_plan import lane_bytes, memory_plan
from shm_bridge.reader import LaneReader
from shm_bridge.server.question import Question
from shm_bridge.server.server import Server
from shm_bridge.spec import CameraSpec, Kind, LaneSpec, Orientation, Phase, Reply, Status, Verdict
from shm_bridge.worker.lane import Lane
from shm_bridge.worker.lane_state import FrameSlot, OpenQuestion

__all__ = [
    "BadMagic",
    "BridgeClosed",
    "BridgeError",
    "BridgeTimeout",
    "CameraSpec",
    "Cancelled",
    "ConfigError",
    "Controller",
    "CorruptSegment",
    "CriticAdapter",
    "ForeignOwner",
    "ForkedProcess",
    "FrameSlot",
    "FramesFull",
    "InvalidRequest",
    "Kind",
    "Lane",
    "LaneNotFound",
    "LaneReader",
    "LaneSpec",
    "LayoutMismatch",
    "NoSpace",
    "OpenQuestion",
    "Orientation",
    "Phase",
    "PhaseTimeout",
    "Question",
    "QuestionsFull",
    "Reply",
    "ReserveTimeout",
    "RunInUse",
    "SegmentError",
    "Server",
    "SidecarDied",
    "SidecarUnreachable",
    "Status",
    "TooManyLanes",
    "Verdict",
    "VerdictTimeout",
    "VersionMismatch",
    "WrongRun",
    "lane_bytes",
    "memory_plan",
]
