"""A stand-in engine: a fixed delay, scripted answers, scripted faults. It looks at no pixel and decides nothing.

For measuring everything around an engine, and for tests that must time a fault. Never a critic.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence

from evo_vlac.engine import Answer, Query, TokenInfo
from sidecar.config import FixedConfig

logger = logging.getLogger(__name__)
_SURE = -1e-6  # log-probability of a scripted answer


class FixedEngine:
    """Answers after ``delay_ms`` as :class:`~sidecar.config.FixedConfig` says."""

    name = "fixed"
    slots = 1
    mixes = True
    remote = False

    def __init__(self, config: FixedConfig) -> None:
        self.config = config
        self.batches = 0
        entries = [entry.split(":") for entry in config.script.split(",") if entry]
        self._faults = {key: fault for key, fault in entries}

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        self.batches += 1
        fault = self._faults.get(str(self.batches), self._faults.get("all"))
        if fault in ("crash", "wedge", "oom", "error"):
            self._fail(fault, len(queries))
        time.sleep((self.config.delay_ms + self.config.per_query_ms * len(queries)) / 1000)
        return [Answer("gar-bage") if fault == "garbage" else self._scripted(query) for query in queries]

    def _fail(self, fault: str, size: int) -> None:
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "wedge":
            threading.Event().wait()
        if fault == "oom" and size > 1:
            raise MemoryError(f"scripted, with a batch of {size}")
        if fault == "error":
            raise ValueError("scripted")

    def _scripted(self, query: Query) -> Answer:
        if not query.choices:
            text = f"{self.config.critic:+g}"
            return Answer(text, (TokenInfo(text, _SURE, ((text, _SURE),)),))
        # The service puts the frame's step last into its key.
        step = query.image_keys[-1][-1] if query.image_keys and isinstance(query.image_keys[-1], tuple) else 0
        done = self.config.done_at_step is not None and step >= self.config.done_at_step
        yes, no = (_SURE, -14.0) if done else (-14.0, _SURE)
        top = tuple(sorted((("1", yes), ("0", no)), key=lambda entry: -entry[1]))
        return Answer(top[0][0], (TokenInfo(top[0][0], top[0][1], top),))

    def offload(self) -> None:
        """Nothing to free."""

    def restore(self) -> None:
        """Nothing to bring back."""

    def memory_bytes(self) -> Mapping[str, int]:
        return {"device": 0}

    def close(self) -> None:
        """Nothing to free."""
