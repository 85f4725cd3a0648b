"""What a run will take of /dev/shm, said before it is taken."""

from __future__ import annotations

from shm_bridge.memory import segment
from shm_bridge.memory.layout import ControlLayout, LaneLayout
from shm_bridge.spec import LaneSpec

MIB = 1 << 20


def lane_bytes(spec: LaneSpec) -> int:
    """Of one lane's segment; fixed from attach to close."""
    return LaneLayout(spec).total


def control_bytes(max_lanes: int) -> int:
    return ControlLayout(max_lanes).total


def memory_plan(spec: LaneSpec, lanes: int, max_lanes: int = 256) -> str:
    """One line for a log: what ``lanes`` such lanes need, and what is free."""
    plan = LaneLayout(spec)
    cameras = ", ".join(f"{c.name} {c.height}x{c.width}x{c.channels}" for c in spec.cameras)
    return (
        f"{lanes} x {plan.total / MIB:.1f} MiB ({spec.frames} frames of {plan.frame_stride} bytes: {cameras}; "
        f"{spec.question_slots} questions) + {control_bytes(max_lanes)} bytes of control "
        f"= {(lanes * plan.total + control_bytes(max_lanes)) / MIB:.1f} MiB; free {segment.free_bytes() / MIB:.0f} MiB"
    )
