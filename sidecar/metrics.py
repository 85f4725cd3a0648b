"""The sidecar's metrics: for Prometheus, and as a flat mapping for the bridge's inspector.

Names begin with ``vlac_sidecar_``. Counters grow for as long as the process lives; a new epoch starts at 0. Replies
are counted by what became of them: ``invalid`` (the model said something unreadable) is about the model, ``failed`` and
``expired`` (no answer came) are an outage, ``cancelled`` found nobody who waited any more, whatever they said.
Seconds are of replies that somebody took, percentiles of the latest DONE replies of the model among them.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shm_bridge import Kind, Phase, Status
from sidecar.crew import Crew
from sidecar.engines.guard import GuardedEngine
from sidecar.reply_builder import ExplainedReply

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RECENT = 2048  # latencies from which the snapshot's percentiles are taken


class Metrics:
    """Everything that is counted. Thread-safe."""

    def __init__(self, engine: str) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._totals: dict[str, float] = {"asked": 0, "answered": 0, "unreadable_pairs": 0}
        self._totals |= {status.name.lower(): 0 for status in Status}
        self._totals |= {"batches": 0, "queries": 0, "engine_busy_s": 0.0, "queue_s": 0.0, "total_s": 0.0}
        self._state: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._started = self._window_start = time.monotonic()
        self._window_busy, self._replicas = 0.0, 1
        self._engine = engine
        self._make_metrics()

    def _make_metrics(self) -> None:
        r, p = self.registry, "vlac_sidecar_"
        self._asked = Counter(p + "questions", "Questions taken off the bridge", ["kind"], registry=r)
        self._answered = Counter(p + "verdicts", "Verdicts", ["kind", "status", "done"], registry=r)
        self._late = Counter(p + "late_verdicts", "Replies that nobody waited for any more", registry=r)
        self._unreadable = Counter(p + "unreadable_pairs", "Pairs of value lists that could not be read", registry=r)
        self._batch = Histogram(p + "batch_size", "Queries in a batch", ["kind"], buckets=_SIZES, registry=r)
        self._stage = Histogram(
            p + "stage_seconds", "Time per stage: queue, engine, total", ["kind", "stage"], buckets=_SECONDS, registry=r
        )
        self._busy = Counter(p + "engine_busy_seconds", "Time in which the engine worked", registry=r)
        self._depth = Gauge(p + "queue_depth", "Queries that wait", registry=r)
        self._memory = Gauge(p + "memory_bytes", "Memory held by the engine", ["where"], registry=r)
        self._phase = Gauge(p + "phase", "1: ROLLOUT, 2: UPDATE", registry=r)
        self._epoch = Gauge(p + "epoch", "Starts under this run id", registry=r)
        self._oom = Gauge(p + "out_of_memory", "Batches halved for lack of memory", registry=r)
        self._failed = Gauge(p + "failed_queries", "Queries the engine could not answer", registry=r)
        self._limit = Gauge(p + "batch_limit", "Largest batch that fits at present", registry=r)
        self._replica = Gauge(
            p + "replica", "Of each replica: up, restarts, queries, busy_s, device_mb", ["replica", "what"], registry=r
        )
        self._info = Gauge(p + "info", "The engine's name", ["engine"], registry=r)
        self._info.labels(self._engine).set(1)
        # looking up a labelled metric takes longer than counting, so they are kept
        self._asked_of, self._answered_of = cache(self._asked.labels), cache(self._answered.labels)
        self._stage_of = cache(self._stage.labels)
        for kind, status in itertools.product(Kind, Status):  # so that a count of 0 is shown, too
            self._answered_of(kind.name, status.name, "false")

    def asked(self, kind: Kind) -> None:
        """One more question of ``kind``."""
        self._asked_of(kind.name).inc()
        with self._lock:
            self._totals["asked"] += 1

    @contextmanager
    def engine_busy(self) -> Iterator[None]:
        """Counts the time inside as the engine's."""
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self._busy.inc(spent)
            with self._lock:
                self._totals["engine_busy_s"] += spent
                self._window_busy += spent

    def batch(self, kind: str, size: int, engine_ns: int) -> None:
        """A batch came back."""
        self._batch.labels(kind).observe(size)
        self._stage_of(kind, "engine").observe(engine_ns / 1e9)
        with self._lock:
            self._totals["batches"] += 1
            self._totals["queries"] += size

    def answered(self, kind: Kind, reply: ExplainedReply, delivered: bool, total_ns: int) -> None:
        """A reply went back; ``total_ns`` from the asking. ``delivered``: somebody still waited for it."""
        status = reply.status if delivered else Status.CANCELLED
        self._answered_of(kind.name, status.name, str(delivered and reply.done).lower()).inc()
        with self._lock:
            self._totals["answered"] += 1
            self._totals[status.name.lower()] += 1
        if not delivered:
            self._late.inc()
            return
        self._stage_of(kind.name, "queue").observe(reply.queue_us / 1e6)
        self._stage_of(kind.name, "total").observe(total_ns / 1e9)
        holes = reply.unreadable if kind is Kind.VALUE else 0
        self._unreadable.inc(holes)
        with self._lock:
            self._totals["queue_s"] += reply.queue_us / 1e6
            self._totals["total_s"] += total_ns / 1e9
            self._totals["unreadable_pairs"] += holes
            if kind is Kind.DONE and status in (Status.OK, Status.INVALID):
                self._recent.append(total_ns / 1e6)

    def state(
        self,
        depth: int,
        memory: Mapping[str, int],
        phase: Phase,
        epoch: int,
        guards: Sequence[GuardedEngine],
        crew: Crew | None = None,
    ) -> None:
        """What holds right now. ``guards``: one a replica, or the engine's only one."""
        limit = min(guard.limit for guard in guards)
        self._depth.set(depth)
        for where, size in memory.items():
            self._memory.labels(where).set(size)
        self._phase.set(int(phase))
        self._epoch.set(epoch)
        self._oom.set(sum(guard.out_of_memory for guard in guards))
        self._failed.set(sum(guard.failed_queries for guard in guards))
        self._limit.set(limit)
        with self._lock:
            self._state = {"queue_depth": depth, "phase": int(phase), "epoch": epoch, "batch_limit": limit}
            self._state |= {f"memory_{where}_mb": size / 2**20 for where, size in memory.items()}
            if crew is not None:
                self._state |= self._of_replicas(crew)

    def _of_replicas(self, crew: Crew) -> dict[str, float]:
        each = crew.numbers()
        self._replicas = len(each)
        for i, numbers in enumerate(each):
            for what, value in numbers.items():
                self._replica.labels(str(i), what).set(value)
        flat = {f"replica_{i}_{what}": numbers[what] for i, numbers in enumerate(each) for what in ("queries", "up")}
        restarts = sum(numbers["restarts"] for numbers in each)
        return {"replicas": len(each), "replicas_up": len(crew.ups()), "replica_restarts": restarts, **flat}

    def snapshot(self) -> dict[str, float]:
        """All of it, flat. ``engine_busy_share`` is of the time since the last snapshot, of all replicas together."""
        with self._lock:
            now = time.monotonic()
            window = max(1e-9, now - self._window_start)
            busy, self._window_busy, self._window_start = self._window_busy, 0.0, now
            recent = sorted(self._recent)
            values = {**self._totals, **self._state, "uptime_s": now - self._started}
        values["engine_busy_share"] = min(1.0, busy / window / self._replicas)
        values["batch_size_mean"] = values["queries"] / values["batches"] if values["batches"] else 0.0
        if recent:
            values["done_ms_p50"] = recent[len(recent) // 2]
            values["done_ms_p99"] = recent[min(len(recent) - 1, int(len(recent) * 0.99))]
        self._last = {name: round(value, 4) for name, value in values.items()}
        return self._last

    def last(self) -> dict[str, float]:
        """The last snapshot; takes no new one."""
        return self._last
