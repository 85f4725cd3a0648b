"""Splits a value curve into rising and falling segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Segment:
    """Values ``start`` to ``end`` (indices), rising or falling."""

    start: int
    end: int
    ascending: bool


def split_segments(
    values: Sequence[float], *, extra_peaks: Sequence[int] = (), prominence: float = 0.1, distance: int = 2
) -> list[Segment]:
    """Splits at peaks and valleys whose prominence is at least that share of the curve's range and that lie at least
    ``distance`` values apart. ``extra_peaks`` are further peaks, by index. A falling segment at the end is left out."""
    from scipy.signal import find_peaks

    curve = np.asarray(values, dtype=np.float64)
    span = float(np.ptp(curve)) if curve.size else 0.0
    if span == 0.0:
        return []
    padded = np.concatenate(([curve.min() - span], curve, [curve.min() - span]))
    tops, _ = find_peaks(padded, prominence=prominence * span, distance=distance)
    turning = sorted({*(int(t) - 1 for t in tops), *(p for p in extra_peaks if 0 < p < curve.size)})
    segments: list[Segment] = []
    at = 0
    for number, peak in enumerate(turning):
        if peak > at:
            segments.append(Segment(at, peak, True))
        if number + 1 < len(turning):
            valley = peak + int(np.argmin(curve[peak : turning[number + 1] + 1]))
            if valley > peak:
                segments.append(Segment(peak, valley, False))
            at = valley
    return segments
