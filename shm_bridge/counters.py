"""What the sidecar's end counts, for inspectors: words only the sidecar writes."""

from __future__ import annotations

import math

from shm_bridge.layout import ServerWord
from shm_bridge.ordering import MASK

LATENCY_BUCKETS = 128
BATCH_BUCKETS = 64


class Counters:
    """Adds to the server words. The caller keeps one writer at a time."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def add(self, word: ServerWord, more: int = 1) -> None:
        self._words[word] = (self._words[word] + more) & MASK

    def verdict(self, latency_ns: int, valid: bool, late: bool, batch_size: int) -> None:
        """One answered question; ``latency_ns`` from its asking."""
        words = self._words
        if late:
            self.add(ServerWord.LATE)
            return
        words[ServerWord.VERDICTS] = (words[ServerWord.VERDICTS] + 1) & MASK
        if not valid:
            self.add(ServerWord.INVALID)
        words[ServerWord.LATENCY + latency_bucket(latency_ns)] += 1
        words[ServerWord.BATCHES + min(max(int(batch_size), 0), BATCH_BUCKETS - 1)] += 1


def latency_bucket(latency_ns: int) -> int:
    """Quarter powers of two of microseconds: bucket b holds up to 2**(b / 4) us."""
    micro = max(latency_ns, 1000) / 1000
    return min(int(math.log2(micro) * 4) + 1, LATENCY_BUCKETS - 1)


def bucket_edge_us(bucket: int) -> float:
    """The upper edge of a bucket, in microseconds."""
    return float(2.0 ** (bucket / 4))


def percentile_us(counts: list[int], share: float) -> float | None:
    """Upper edge of the bucket in which ``share`` (0 to 1) of all latencies is reached; None without any."""
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= share * total:
            return bucket_edge_us(bucket)
    return bucket_edge_us(len(counts) - 1)
