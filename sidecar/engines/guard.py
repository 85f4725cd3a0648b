"""Keeps one bad query or a full accelerator from failing a batch.

Out of memory halves the batch, goes on, and remembers the size that fitted; any other exception halves it too, down to
the one query that causes it, which gets an error and no more. A batch of n costs at most 2n calls that way. An answer
whose numbers cannot be (a broken model, a strange server) is an error, too: nothing is read from it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from evo_vlac.engine import Answer, Query
from sidecar.engines.base import SidecarEngine
from sidecar.errors import EngineWedgedError

logger = logging.getLogger(__name__)
_GROW_AFTER = 256  # batches without trouble after which a lowered limit is doubled again
_LOGPROB_MAX = 0.01  # 0, but for rounding in half precision


class GuardedEngine:
    """``engine`` with that rule. ``limit`` is the largest batch that fits at present."""

    def __init__(self, engine: SidecarEngine, max_size: int) -> None:
        self.engine, self.max_size, self.limit = engine, max_size, max_size
        self.out_of_memory = 0
        self.failed_queries = 0
        self._calm = 0

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """As many answers as queries; never raises but for EngineWedgedError."""
        answers: list[Answer] = []
        rest = list(queries)
        while rest:
            part, rest = rest[: self.limit], rest[self.limit :]
            answers.extend(checked(answer) for answer in self._part(part))
        self.failed_queries += sum(answer.error is not None for answer in answers)
        self._calm += 1
        if self._calm >= _GROW_AFTER and self.limit < self.max_size:
            self.limit, self._calm = min(self.max_size, self.limit * 2), 0
        return answers

    def _part(self, queries: list[Query]) -> list[Answer]:
        try:
            answers = self.engine.answer(queries)
        except EngineWedgedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises belongs to one query, not to the service
            return self._split(queries, error)
        if len(answers) != len(queries):
            return [Answer("", (), f"the engine gave {len(answers)} answers for {len(queries)} queries")] * len(queries)
        return answers

    def _split(self, queries: list[Query], error: Exception) -> list[Answer]:
        full = is_out_of_memory(error)
        if full:
            self.out_of_memory += 1
            self.limit, self._calm = max(1, math.ceil(len(queries) / 2)), 0
            logger.warning("out of memory with a batch of %d; going on with %d", len(queries), self.limit)
            _empty_cache()
        if len(queries) > 1:
            middle = len(queries) // 2
            return self._part(queries[:middle]) + self._part(queries[middle:])
        text = "out of memory with a single query" if full else f"{type(error).__name__}: {error}"
        logger.warning("a %s query failed: %s", queries[0].kind, text, exc_info=None if full else error)
        return [Answer("", (), text)]


def checked(answer: Answer) -> Answer:
    """The answer, or an error in its place where a log-probability is not one: NaN, or of more than 1."""
    for token in answer.tokens:
        for text, logprob in ((token.text, token.logprob), *token.top):
            if not logprob <= _LOGPROB_MAX:  # so for NaN, too
                return Answer("", error=f"the engine gave {text[:20]!r} a log-probability of {logprob:g}")
    return answer


def is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, torch's OutOfMemoryError, or the allocator's RuntimeError on CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _empty_cache() -> None:
    import sys

    torch = sys.modules.get("torch")  # an engine without torch does not get it for this
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
