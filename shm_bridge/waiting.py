"""Spin, then park: how either side waits for a word to change.

The waiter sets its parked flag, fences, looks once more, and only then sleeps; the other side publishes, fences, reads
the flag, and posts when it is set. So one of them always sees the other (tests/shm_bridge/test_model.py checks all
interleavings). A bounded sleep with a fresh look is the safety net under it: a lost post costs ``slice_s``, no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shm_bridge.ordering import fence
from shm_bridge.semaphore import Semaphore

SPURIOUS_LIMIT = 32
SPURIOUS_SLEEP_S = 0.001


class Parking:
    """One waiter's parked flag and semaphore."""

    def __init__(self, words: memoryview, flag: int, semaphore: Semaphore, spin_us: float, slice_s: float) -> None:
        self._words, self._flag, self.semaphore = words, flag, semaphore
        self._spin_ns = int(spin_us * 1000)
        self._slice_s = slice_s
        words[flag] = 0

    def until(self, ready: Callable[[], bool], deadline_ns: int, idle: Callable[[], None]) -> bool:
        """Waits until ``ready()``; False when the deadline (monotonic ns) came first.

        ``idle`` is called after every slept slice; it may raise.
        """
        if ready():
            return True
        if self._spin_ns and self._spin(ready, deadline_ns):
            return True
        return self._park(ready, deadline_ns, idle)

    def _spin(self, ready: Callable[[], bool], deadline_ns: int) -> bool:
        now = time.monotonic_ns
        end = min(now() + self._spin_ns, deadline_ns)
        while now() < end:
            for _ in range(16):
                if ready():
                    return True
        return False

    def _park(self, ready: Callable[[], bool], deadline_ns: int, idle: Callable[[], None]) -> bool:
        words, flag, spurious = self._words, self._flag, 0
        words[flag] = 1
        try:
            while True:
                fence()
                if ready():
                    return True
                left = deadline_ns - time.monotonic_ns()
                if left <= 0:
                    return False
                if self.semaphore.wait(min(left * 1e-9, self._slice_s)):
                    if ready():
                        return True
                    spurious += 1  # a post nobody meant for us any more, or a semaphore somebody filled
                    if spurious > SPURIOUS_LIMIT:
                        time.sleep(SPURIOUS_SLEEP_S)
                        idle()
                else:
                    idle()
        finally:
            words[flag] = 0
