"""One bad query, or too little memory, never fails a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from evo_vlac.engine import Answer, Query
from evo_vlac.queries import done_query
from sidecar.config import FixedConfig
from sidecar.engines.fixed import FixedEngine
from sidecar.engines.guard import GuardedEngine
from sidecar.errors import EngineWedgedError

FRAME = np.zeros((8, 8, 3), np.uint8)


def queries(count: int) -> list[Query]:
    return [done_query(FRAME, f"task {i}") for i in range(count)]


class Limited(FixedEngine):
    """Has room for ``room`` queries; raises on a task it does not like."""

    def __init__(self, room: int, bad: str = "") -> None:
        super().__init__(FixedConfig())
        self.room, self.bad, self.sizes = room, bad, []

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        self.sizes.append(len(queries))
        if len(queries) > self.room:
            raise MemoryError("no room")
        if self.bad and any(self.bad in query.prompt for query in queries):
            raise ValueError("I do not like that")
        return [Answer(query.prompt) for query in queries]


@pytest.mark.parametrize("room", [1, 3, 8])
def test_out_of_memory_halves_and_goes_on(room: int) -> None:
    """All are answered, in order; the next batch starts at the size that fitted."""
    engine = Limited(room)
    guard = GuardedEngine(engine, 16)
    asked = queries(16)
    assert [answer.text for answer in guard.answer(asked)] == [query.prompt for query in asked]
    assert guard.out_of_memory >= 1 and guard.limit <= 8
    guard.answer(asked)
    engine.sizes.clear()
    guard.answer(asked)
    assert max(engine.sizes) <= room


def test_one_bad_query_gets_the_only_error() -> None:
    """The others of its batch are answered."""
    guard = GuardedEngine(Limited(99, bad="task 5"), 16)
    answers = guard.answer(queries(12))
    assert [i for i, answer in enumerate(answers) if answer.error] == [5]
    assert "I do not like that" in (answers[5].error or "") and guard.failed_queries == 1


def test_a_single_query_too_large_is_an_error_not_a_crash() -> None:
    """There is nothing left to halve."""
    (answer,) = GuardedEngine(Limited(0), 4).answer(queries(1))
    assert answer.error == "out of memory with a single query"


def test_a_wedged_engine_is_not_split() -> None:
    """Only a new process helps; the guard passes it on."""

    class Wedged(FixedEngine):
        def answer(self, queries: Sequence[Query]) -> list[Answer]:
            raise EngineWedgedError("stuck")

    with pytest.raises(EngineWedgedError):
        GuardedEngine(Wedged(FixedConfig()), 4).answer(queries(2))
