"""What the sidecar does, as a trace that a person can open: ui.perfetto.dev, or chrome://tracing.

    waiting   from the oldest question of a batch to the moment the engine takes it
    engine    each batch: its kind, its size, how long its questions had waited; of several, a track each
    phases    changes between ROLLOUT and UPDATE
    metrics   once a second: engine busy share, queue depth, verdicts a second

The file is a JSON array without its end, which both viewers read: a service that is killed leaves a good trace, and the
one that takes its place writes on. Times are of the wall clock, so that traces of several processes can be joined.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.errors import ConfigError

logger = logging.getLogger(__name__)
_TRACKS = ("engine", "phases")


class Trace:
    """Writes to ``path``. Times are nanoseconds of the monotonic clock. Thread-safe.

    Raises ConfigError for a file that cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._lock = threading.Lock()
        self._file: Any  # None when it was closed, or the disk was full
        self._batches, self._answered, self._last_ns = 0, 0.0, time.monotonic_ns()
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - held for the service's life
        except OSError as error:
            raise ConfigError(f"trace={path}: cannot be written ({error.strerror})") from None
        if not self._file.tell():
            self._file.write("[\n")
        self._write({"ph": "M", "name": "process_name", "args": {"name": f"sidecar {os.getpid()}"}})
        for i, name in enumerate(_TRACKS):
            self._write({"ph": "M", "name": "thread_name", "tid": i, "args": {"name": name}})

    def batch(self, kind: str, asked_ns: Sequence[int], taken_ns: int, engine_ns: int, slot: int = 0) -> None:
        """A batch of ``kind``, whose questions were asked at ``asked_ns``, has come back to a slot of the engine."""
        waited = [(taken_ns - asked) / 1e6 for asked in asked_ns]
        size = len(waited)
        args = {"size": size, "waited_ms_mean": round(sum(waited) / size, 3), "waited_ms_most": round(max(waited), 3)}
        self.span("engine", f"{kind} x {size}", taken_ns, taken_ns + engine_ns, args, slot)
        self._batches += 1
        for phase, at_ns in (("b", min(asked_ns)), ("e", taken_ns)):
            self._write(
                {
                    "ph": phase,
                    "cat": "waiting",
                    "name": f"waiting: {kind}",
                    "id": self._batches,
                    "ts": self._us(at_ns),
                }
            )

    def span(
        self, track: str, name: str, start_ns: int, end_ns: int, args: Mapping[str, Any] | None = None, slot: int = 0
    ) -> None:
        """Something that took from ``start_ns`` to ``end_ns``, on one of the tracks, or on that of a later slot."""
        self._write(
            {
                "ph": "X",
                "cat": track,
                "name": name,
                "tid": _TRACKS.index(track) if not slot else len(_TRACKS) + slot,
                "ts": self._us(start_ns),
                "dur": (end_ns - start_ns) / 1e3,
                "args": args or {},
            }
        )

    def metrics(self, values: Mapping[str, float]) -> None:
        """The latest of :meth:`sidecar.metrics.Metrics.snapshot`."""
        now = time.monotonic_ns()
        answered, seconds = values.get("answered", 0.0), (now - self._last_ns) / 1e9
        rate, self._answered, self._last_ns = (answered - self._answered) / max(seconds, 1e-9), answered, now
        shown = {
            "engine busy share": values.get("engine_busy_share", 0.0),
            "queue depth": values.get("queue_depth", 0.0),
            "verdicts a second": round(rate, 2),
        }
        for name, value in shown.items():
            self._write({"ph": "C", "name": name, "ts": self._us(now), "args": {"value": value}})
        with self._lock:
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        """Ends the file. Calling it twice is allowed."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _us(self, monotonic_ns: int) -> float:
        return (monotonic_ns + self._offset_ns) / 1e3

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps({"pid": os.getpid(), "tid": 0, **event})
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(line + ",\n")
            except OSError as error:  # a full disk must not end the run
                logger.warning("no more is written to the trace: %s", error)
                self._file = None
