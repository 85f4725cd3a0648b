"""One query on its way through the sidecar: what the planner makes, the batcher orders, the engine answers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import IntEnum

from evo_vlac.engine import Query
from evo_vlac.parsing import CriticResult
from shm_bridge import Question


class Priority(IntEnum):
    """Smaller is more urgent."""

    WAITED_FOR = 0  # an episode cannot go on or end without it: a done, a value list
    ANSWER = 1  # nothing waits for it: a pair


@dataclass(slots=True)
class PendingList:
    """A VALUE question on its way: which of its pairs have been answered, and what their batches took (nanoseconds)."""

    missing: int
    critics: dict[int, CriticResult] = field(default_factory=dict)
    error: str | None = None  # of the first pair that got no answer
    closed: bool = False  # replied to before all pairs were answered
    started_ns: int = 0
    batch_ns: int = 0
    engine_ns: int = 0
    batch_size: int = 0

    def count(self, taken_ns: int, engine_ns: int, batch_size: int) -> None:
        """A pair came back from a batch. Several pairs in one batch cost its time once."""
        self.missing -= 1
        self.started_ns = self.started_ns or taken_ns
        if self.batch_ns != taken_ns:
            self.batch_ns = taken_ns
            self.engine_ns += engine_ns
        self.batch_size = max(self.batch_size, batch_size)


@dataclass(frozen=True, slots=True, eq=False)
class QueryTask:
    """One query, and whose it is.

    Attributes:
        lane: tasks of different lanes are served in turn.
        bucket: one batch holds tasks of one bucket only.
        asked_ns, deadline_ns: on the service's clock; a deadline of 0 is none.
        question: what the answer is for; None: a probe.
        pending, pair: of a VALUE question: its list, and the number of the pair, from 0.
    """

    query: Query
    lane: Hashable
    bucket: Hashable
    priority: Priority = Priority.WAITED_FOR
    asked_ns: int = 0
    deadline_ns: int = 0
    question: Question | None = None
    pending: PendingList | None = None
    pair: int = 0
