"""The question that shows that a model answers: a picture of noise, is the task done?

The verdict itself does not matter, only that it can be read.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from evo_vlac.engine import Answer, Query
from evo_vlac.parsing import parse_done
from evo_vlac.queries import done_query
from sidecar.engines.base import SidecarEngine
from sidecar.engines.guard import checked
from sidecar.errors import PERMANENT, ProbeFailedError
from sidecar.query_task import Priority, QueryTask

PROBE_SIZE = 112


@lru_cache(maxsize=1)
def probe_query() -> Query:
    """Always the same: uint8 (112, 112, 3) noise from a fixed seed."""
    noise = np.random.default_rng(0).integers(0, 256, (PROBE_SIZE, PROBE_SIZE, 3), np.uint8)
    return done_query(noise, "lift the red cube")


def probe_task(now_ns: int) -> QueryTask:
    """The probe as a task of its own, after what workers wait for."""
    return QueryTask(probe_query(), lane="probe", bucket="probe", priority=Priority.ANSWER, asked_ns=now_ns)


def read_probe(answer: Answer) -> str | None:
    """None when the probe was answered readably, else what is wrong."""
    if answer.error is not None:
        return answer.error
    if not parse_done(answer).valid:
        return f"unreadable answer {answer.text!r}"
    return None


def check_answers(engine: SidecarEngine) -> None:
    """Raises ProbeFailedError when the engine, just loaded, does not answer the probe readably."""
    (answer,) = engine.answer([probe_query()])
    failure = read_probe(checked(answer))
    if failure is not None:
        error = ProbeFailedError(f"engine {engine.name} does not answer a probe question: {failure}")
        error.exit_code = 1 if engine.remote else PERMANENT
        raise error
