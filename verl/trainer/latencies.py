"""How long verdicts took, in a fixed amount of memory however long the run is.

Buckets grow by 2 %, so that a percentile is right to 1 % (HdrHistogram's idea, with equal ratios). One microsecond to
half an hour; what lies outside is in the first or the last bucket.
"""

from __future__ import annotations

import numpy as np

RATIO = 1.02
LONGEST_US = 1.8e9
EDGES_US = RATIO ** np.arange(1, int(np.ceil(np.log(LONGEST_US) / np.log(RATIO))))


class Latencies:
    """Counts by bucket. ``counts``: (n,) int64, what a checkpoint holds."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(EDGES_US) + 1, np.int64)

    def add(self, latencies_us: np.ndarray) -> None:
        """(m,) microseconds. Nothing of the array is kept."""
        np.add.at(self.counts, np.searchsorted(EDGES_US, latencies_us), 1)

    def percentile_ms(self, percentile: float) -> float:
        """In milliseconds, to 1 %; NaN without any."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        bucket = int(np.searchsorted(np.cumsum(self.counts), max(1.0, percentile / 100 * total)))
        return float(RATIO ** (bucket + 0.5)) / 1000
