"""What every measured way offers, and what is written down about it."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil

# Where a rollout's work is done: the processes whose processor time is counted.
PARTS = ("simulators", "critic", "driver")


@dataclass(frozen=True, slots=True)
class Finished:
    """One episode. ``stages``: seconds in its environment's process."""

    seed: int
    steps: int
    complete: bool
    score: float
    stages: dict[str, float]


class Way(Protocol):
    """A way to roll episodes out. Everything is started when it is made; ``close`` ends it."""

    name: str

    def run(self, seeds: Sequence[int]) -> list[Finished]:
        """An episode for each seed, ended by the critic's done or at max_steps."""

    def processes(self) -> dict[str, list[int]]:
        """Process numbers by part, of the parts that are processes of their own."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Row:
    """What was measured of one way, over all repeats. ``minutes``: of each repeat."""

    name: str
    text: str
    minutes: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    episodes: list[Finished] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def measure(self, way: Way, seeds: Sequence[int]) -> None:
        """Runs one repeat and adds it."""
        before, started = _cpu(way), time.monotonic()
        finished = way.run(seeds)
        seconds = time.monotonic() - started
        after = _cpu(way)
        self.minutes.append(seconds / 60)
        self.rates.append(len(finished) / seconds * 60)
        self.episodes += finished
        for part in PARTS:
            self.cpu_s[part] += after[part] - before[part]

    @property
    def rate(self) -> float:
        """Episodes per minute: all of them over all the time."""
        return len(self.episodes) / sum(self.minutes)

    def summary(self) -> dict[str, Any]:
        """Everything as JSON has it; seconds are of one episode."""
        count = len(self.episodes)
        stages = dict.fromkeys(name for one in self.episodes for name in one.stages)
        return {
            "way": self.name,
            "text": self.text,
            "episodes_per_minute": round(self.rate, 2),
            "by_repeat": [round(rate, 2) for rate in self.rates],
            "steps_per_second": round(sum(one.steps for one in self.episodes) / sum(self.minutes) / 60, 1),
            "episodes": count,
            "mean_steps": round(sum(one.steps for one in self.episodes) / count, 1),
            "done": sum(one.complete for one in self.episodes),
            "mean_score": round(sum(one.score for one in self.episodes) / count, 3),
            "stage_s": {s: round(sum(one.stages.get(s, 0.0) for one in self.episodes) / count, 3) for s in stages},
            "cpu_s": {part: round(seconds / count, 4) for part, seconds in self.cpu_s.items()},
        }


def _cpu(way: Way) -> dict[str, float]:
    """Processor seconds spent so far, by part."""
    spent = dict.fromkeys(PARTS, 0.0)
    spent["driver"] = time.process_time()
    for part, numbers in way.processes().items():
        for number in numbers:
            # the process's own clock, in nanoseconds: a critic that answers a short run uses less than a tick of /proc
            spent[part] += time.clock_gettime(cpu_clock(number))
    return spent


def cpu_clock(number: int) -> int:
    """The clock of another process's processor time, for ``time.clock_gettime``: clock_getcpuclockid(3)."""
    clock = ctypes.c_int()
    if error := ctypes.CDLL(None).clock_getcpuclockid(number, ctypes.byref(clock)):
        raise ProcessLookupError(error, os.strerror(error))
    return clock.value


def children() -> set[int]:
    """Process numbers of everything below this process."""
    return {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}
