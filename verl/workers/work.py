"""What an actor is at, as another of its threads tells while a long call runs.

    one thread:      update() ... work.step() after each micro-batch
    another (Ray's concurrency group ``GROUP``):     report() -> Report

A report that comes shows that the process runs; that the call advances is shown by its steps alone.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

GROUP = "report"


@dataclass(frozen=True, slots=True)
class Report:
    """Of one moment. ``moves``: counts whatever happened since the start; the rest is of the call under way.

    ``of``: how many steps it will make, where that is known.
    """

    host: str
    pid: int
    call: str | None
    steps: int
    moves: int
    of: int | None = None

    def __str__(self) -> str:
        steps = f"{self.steps} steps" if self.of is None else f"{self.steps} of {self.of} steps"
        at = f", {steps} into its {self.call}" if self.call else ""
        return f"process {self.pid} on {self.host}{at}"


class Work:
    """Counts; written by the thread that works, read by any."""

    def __init__(self) -> None:
        self._call: str | None = None
        self._of: int | None = None
        self._steps = self._moves = 0

    def begin(self, call: str | None) -> None:
        """A long call begins; None: it is over."""
        self._call, self._of, self._steps, self._moves = call, None, 0, self._moves + 1

    def expect(self, steps: int) -> None:
        """The call under way will make so many more."""
        self._of = self._steps + steps

    def step(self) -> None:
        """One more piece of the call is done."""
        self._steps += 1
        self._moves += 1

    def report(self) -> Report:
        return Report(socket.gethostname(), os.getpid(), self._call, self._steps, self._moves, self._of)


def at_work(method: Callable[..., Any]) -> Callable[..., Any]:
    """For a long method of an object that keeps a :class:`Work` in ``work``: names it there."""

    @functools.wraps(method)
    def working(self: Any, *arguments: Any, **named: Any) -> Any:
        self.work.begin(method.__name__)
        try:
            return method(self, *arguments, **named)
        finally:
            self.work.begin(None)

    return working
