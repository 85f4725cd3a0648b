"""What a run has done so far: counts, results and seconds. A checkpoint holds it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Counts:
    """Shared by the parts of the loop.

    Attributes:
        updates: of the weights; one without a finite gradient is none.
        rollouts: draws are keyed by them: one without a signal has no update.
        episodes: training episodes, those given up included.
        dropped_groups: that were not trained on.
        success_before, success_after: share of evaluation episodes, by the simulator; None: not evaluated.
        evaluated_at: updates at the latest evaluation.
        best: of the evaluations after an update.
        time_s: by stage of the loop.
    """

    updates: int = 0
    rollouts: int = 0
    episodes: int = 0
    dropped_groups: int = 0
    success_before: float | None = None
    success_after: float | None = None
    evaluated_at: int | None = None
    best: float | None = None
    time_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def skipped(self) -> int:
        """Rollouts without an update."""
        return self.rollouts - self.updates

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the block's seconds to ``stage``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.time_s[stage] += time.monotonic() - started

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        state: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**state, "time_s": dict(self.time_s)}

    def restore(self, state: dict[str, Any]) -> None:
        """The counterpart of :meth:`state`; seconds spent already, as of the start, are kept."""
        for f in fields(self):
            if f.name != "time_s":
                setattr(self, f.name, state[f.name])
        for stage, seconds in state["time_s"].items():
            self.time_s[stage] += seconds
