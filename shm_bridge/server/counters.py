"""What the sidecar's end counts, for inspectors: words only the sidecar writes."""

from __future__ import annotations

from bisect import bisect_left

from shm_bridge.memory.layout import ServerWord
from shm_bridge.spec import Status
from shm_bridge.sync.ordering import MASK

LATENCY_BUCKETS = 128
BATCH_BUCKETS = 64
EDGES_NS = [int(1000 * 2 ** (bucket / 4)) for bucket in range(LATENCY_BUCKETS - 1)]
VERDICTS, LATENCY, BATCHES = int(ServerWord.VERDICTS), int(ServerWord.LATENCY), int(ServerWord.BATCHES)


class Counters:
    """Adds to the server words. The caller keeps one writer at a time."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def add(self, word: ServerWord, more: int = 1) -> None:
        self._words[word] = (self._words[word] + more) & MASK

    def verdict(self, latency_ns: int, valid: bool, status: Status, batch_size: int) -> None:
        """One answered question; ``latency_ns`` from its asking; ``batch_size`` of 0 or more.

        ``CANCELLED`` counts as late and no more. What is not valid is either unreadable or an outage, never both.
        """
        words = self._words
        if status is Status.CANCELLED:
            self.add(ServerWord.LATE)
            return
        words[VERDICTS] = (words[VERDICTS] + 1) & MASK
        if status in (Status.FAILED, Status.EXPIRED):
            self.add(ServerWord.FAILED)
        elif not valid:
            self.add(ServerWord.INVALID)
        words[LATENCY + bisect_left(EDGES_NS, latency_ns)] += 1
        words[BATCHES + (batch_size if batch_size < BATCH_BUCKETS else BATCH_BUCKETS - 1)] += 1


def bucket_edge_us(bucket: int) -> float:
    """The upper edge of a bucket, in microseconds: quarter powers of two."""
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
