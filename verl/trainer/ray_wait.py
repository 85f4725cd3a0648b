"""Waiting for Ray's answers: in slices, so that Ctrl-C is seen and the watchdog knows where the driver stands.

Every wait ends: with the answers, with what went wrong there, or with :class:`~verl.errors.NoAnswerError`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from verl.errors import NoAnswerError
from verl.launch import interrupt
from verl.trainer import watchdog

SLICE_S = 1.0
_looks: list[Callable[[], None]] = []


@contextmanager
def looking(look: Callable[[], None]) -> Iterator[None]:
    """Within the block ``look`` is called in the main thread, about once a second while the driver waits."""
    _looks.append(look)
    try:
        yield
    finally:
        _looks.remove(look)


def get(calls: Sequence[Any], timeout_s: float, what: str, on_slice: Callable[[], None] | None = None) -> list[Any]:
    """The results of ``calls``, in their order.

    Args:
        what: is waited for, as ``the learners' update``.
        on_slice: called about once a second; what it raises ends the wait.

    Raises:
        NoAnswerError: not all are there after ``timeout_s`` seconds.
        RayError: of the first of them that failed, as soon as it did.
    """
    started = time.monotonic()
    answers: list[Any] = [None] * len(calls)
    open_calls = dict(enumerate(calls))
    while open_calls:
        left = timeout_s - (time.monotonic() - started)
        waiting = list(open_calls.values())
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=max(0.0, min(SLICE_S, left)))
        for number in [n for n, call in open_calls.items() if call in ready]:
            answers[number] = ray.get(open_calls.pop(number))
        beat(what)
        if open_calls and on_slice is not None:
            on_slice()
        if open_calls and left <= 0:
            raise NoAnswerError(
                f"{what}: {len(open_calls)} of {len(calls)} answers did not come within {timeout_s:.0f} s"
            )
    return answers


def settle(calls: Sequence[Any], timeout_s: float, what: str) -> None:
    """Until all have answered, well or not, or the time is over. For endings: raises nothing, Ctrl-C waits."""
    deadline, waiting = time.monotonic() + timeout_s, list(calls)
    while waiting and (left := deadline - time.monotonic()) > 0:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=min(SLICE_S, left))
        watchdog.beat(what)


def beat(what: str) -> None:
    """Of the driver's main thread: it waits for ``what``. Raises KeyboardInterrupt when one was asked for."""
    if threading.current_thread() is threading.main_thread():
        watchdog.beat(what)
        interrupt.look()
        for look in _looks:
            look()
