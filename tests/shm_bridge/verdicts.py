"""Verdicts as an asker receives them, without a sidecar."""

from __future__ import annotations

import math

from shm_bridge import Kind, Status, Verdict


def frame_verdict(valid: bool, done: bool, probability: float = math.nan, step: int = 0) -> Verdict:
    """The reply to a DONE question about the frame after ``step``."""
    status = Status.OK if valid else Status.INVALID
    return Verdict(1, Kind.DONE, 0, step, done, math.nan, probability, valid, status, None, 1, 0, 0, 1, 1)
