"""An engine whose batches shrink where memory ends, and whose failures stay with the query that causes them.

:mod:`evo_vlac.halving` says how. Here: a wedged engine is not split, the limit grows again, and an answer whose numbers
cannot be (a broken model, a strange server) is an error, too: nothing is read from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from evo_vlac.engine import Answer, Query
from evo_vlac.halving import HalvingBatches
from sidecar.engines.base import SidecarEngine
from sidecar.errors import EngineWedgedError

_GROW_AFTER = 256  # batches without trouble after which a lowered limit is doubled again
_LOGPROB_MAX = 0.01  # 0, but for rounding in half precision


class GuardedEngine:
    """``engine`` with that rule. ``failed_queries``: how many got an error, so far."""

    def __init__(self, engine: SidecarEngine, max_size: int) -> None:
        self.engine = engine
        self.failed_queries = 0
        self._batches: HalvingBatches[Query] = HalvingBatches(
            engine.answer, max_size, grow_after=_GROW_AFTER, passed_on=(EngineWedgedError,)
        )

    @property
    def limit(self) -> int:
        """The largest batch that fits at present."""
        return self._batches.limit

    @property
    def out_of_memory(self) -> int:
        """Batches that did not fit, so far."""
        return self._batches.out_of_memory

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """As many answers as queries; never raises but for EngineWedgedError."""
        answers = [checked(answer) for answer in self._batches.answer(queries)]
        self.failed_queries += sum(answer.error is not None for answer in answers)
        return answers


def checked(answer: Answer) -> Answer:
    """The answer, or an error in its place where a log-probability is not one: NaN, or of more than 1."""
    for token in answer.tokens:
        for text, logprob in ((token.text, token.logprob), *token.top):
            if not logprob <= _LOGPROB_MAX:  # so for NaN, too
                return Answer("", error=f"the engine gave {text[:20]!r} a log-probability of {logprob:g}")
    return answer
