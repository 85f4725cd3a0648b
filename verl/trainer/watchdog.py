"""A thread that sees when the driver itself stands still: Ray's own calls can block for ever.

    main thread --beat("the learners' update")--> Watchdog, once a second --> named after 45 s
         | in a call into Ray, a file system, ...                          |   Ray's daemons are looked at
         x                                                                 +-> the run ends

Ray's raylet or its control server (gcs) stopped, or gone: most calls into Ray never come back, and no exception can
reach the main thread. Then the process is ended from here, with an ``error:`` line; who started it cleans up.
A main thread that computes is left alone, however long: it uses its core.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

logger = logging.getLogger(__name__)
LOOK_S = 1.0
NAMED_S = 45.0  # without a beat and without work: said
FROZEN_S = 75.0  # ... and a daemon of Ray's is the reason: ended
MOST_GAP_S = 5.0
WORKS_CPU_S = 0.2  # of the main thread; one that waits uses none at all
ASK_EVERY_S = 60.0  # Ray's control server, by a process of its own
ANSWER_S = 30.0
DAEMONS = {"gcs_server": "Ray's control server (gcs)", "raylet": "Ray's raylet"}

_where, _beats = "the start", 0


def beat(where: str) -> None:
    """The main thread waits, and looks around while it does, in ``where``."""
    global _where, _beats
    _where, _beats = where, _beats + 1


class OwnTime:
    """Seconds in which this process ran: while it was itself stopped nobody else is late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last, self._total = clock, clock(), 0.0

    def __call__(self) -> float:
        now = self._clock()
        self._total += min(now - self._last, MOST_GAP_S)
        self._last = now
        return self._total


@dataclass(slots=True)
class Senses:
    """What the watchdog looks at.

    ``clock``: seconds; ``cpu``: of the main thread; ``faults(ask)``: of Ray's daemons, see :func:`ray_faults`.
    """

    clock: Callable[[], float]
    cpu: Callable[[], float]
    beats: Callable[[], tuple[int, str]]
    faults: Callable[[bool], list[str]]


class Watchdog:
    """Pure logic; :func:`watching` gives it a thread.

    Args:
        note: says what stands still. ``end``: ends the run, with this reason.
        stall_timeout_s: until the end where no reason is to be seen.
    """

    def __init__(
        self, senses: Senses, note: Callable[[str], None], end: Callable[[str], None], stall_timeout_s: float
    ) -> None:
        self.senses, self.note, self.end, self.stall_timeout_s = senses, note, end, stall_timeout_s
        self._named = False
        self._mark()

    def _mark(self) -> None:
        senses = self.senses
        self._since, self._cpu, self._beats = senses.clock(), senses.cpu(), senses.beats()[0]
        self._ask_at = FROZEN_S

    def look(self) -> None:
        """To be called about once a second."""
        still = self.senses.clock() - self._since
        beats, where = self.senses.beats()
        if beats != self._beats or self.senses.cpu() - self._cpu > WORKS_CPU_S:
            if self._named:
                self._say(f"it goes on: the driver stood still for {still:.0f} s")
            self._named = False
            self._mark()
            return
        if still < NAMED_S:
            return
        ask = still >= self._ask_at
        if ask:
            self._ask_at = still + ASK_EVERY_S
        faults = self.senses.faults(ask)
        message = "; ".join([f"the driver has stood still for {still:.0f} s, last seen in {where}", *faults])
        if not self._named:
            self._named = True
            self._say(message)
        if still >= (FROZEN_S if faults else self.stall_timeout_s):
            self.end(message)

    def _say(self, message: str) -> None:
        logger.warning(message)
        self.note(message)


@contextmanager
def watching(note: Callable[[str], None], end: Callable[[str], None], stall_timeout_s: float) -> Iterator[None]:
    """Watches the calling thread, which must be the main one, until the block is left."""
    clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    senses = Senses(OwnTime(), lambda: time.clock_gettime(clock), lambda: (_beats, _where), ray_faults)
    dog, left = Watchdog(senses, note, end, stall_timeout_s), threading.Event()

    def run() -> None:
        while not left.wait(LOOK_S):
            dog.look()

    threading.Thread(target=run, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        left.set()


def ray_faults(ask: bool) -> list[str]:
    """What is wrong with the daemons of the Ray that this driver is connected to, a line each.

    Those of this machine are looked at. ``ask``: the control server, wherever it is, is asked for its health as well.
    """
    import ray

    if not ray.is_initialized():
        return []
    address = ray.get_runtime_context().gcs_address
    faults = [
        f"{DAEMONS[process.name()]}, process {process.pid}, is stopped"
        for process in _daemons(address)
        if process.status() == psutil.STATUS_STOPPED
    ]
    if not faults and ask and not _control_server_answers(address):
        faults = [f"Ray's control server (gcs) at {address} does not answer"]
    return faults


def _daemons(address: str) -> list[psutil.Process]:
    """On this machine, of the Ray whose control server is at ``address``."""
    there = [p for p in psutil.process_iter(["name", "cmdline"]) if p.info["name"] in DAEMONS and p.info["cmdline"]]
    sessions = {
        word
        for process in there
        if f"--gcs-address={address}" in process.info["cmdline"]
        for word in process.info["cmdline"]
        if word.startswith("--session-name=")
    }
    return [process for process in there if sessions.intersection(process.info["cmdline"])]


def _control_server_answers(address: str) -> bool:
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        return subprocess.run(command, capture_output=True, timeout=ANSWER_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
