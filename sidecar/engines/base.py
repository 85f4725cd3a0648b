"""What the service needs of an engine, beyond answering: memory phases, numbers, an end.

evo_vlac's engines answer; an engine that holds nothing on an accelerator needs no more than that. The adapter
:class:`PlainEngine` gives them the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from evo_vlac.engine import Answer, Engine, Query


class SidecarEngine(Protocol):
    """An engine of the sidecar. Called by one thread, except :meth:`close` at the very end."""

    name: str

    @property
    def slots(self) -> int:
        """How many batches may run at once: 1, but for engines that only wait for a server."""

    @property
    def mixes(self) -> bool:
        """Whether a batch may hold questions of all kinds and shapes: True for engines that schedule requests one by
        one, False where a batch is one tensor."""

    @property
    def remote(self) -> bool:
        """Whether the model runs elsewhere: then a restart of this process does not help when it does not answer."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """As many answers as queries, in order. May raise MemoryError or torch's out-of-memory error: the guard
        halves the batch then."""

    def offload(self) -> None:
        """Leaves the accelerator almost empty (phase UPDATE)."""

    def restore(self) -> None:
        """Is back, ready to answer (phase ROLLOUT)."""

    def memory_bytes(self) -> Mapping[str, int]:
        """What is held where, by name: ``device``, ``host``, ``feature_cache``, ``prefix_cache``."""

    def close(self) -> None:
        """Frees everything. Calling it twice is allowed."""


class PlainEngine:
    """An evo_vlac engine as an engine of the sidecar: no phases, no numbers."""

    slots = 1
    mixes = False
    remote = False

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.name

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        return self.engine.answer(queries)

    def offload(self) -> None:
        """Nothing to free."""

    def restore(self) -> None:
        """Nothing to bring back."""

    def memory_bytes(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self.engine.close()
