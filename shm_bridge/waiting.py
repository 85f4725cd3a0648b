"""Spin, then park: how either side waits for a word to change, and how the other side wakes it.

The waiter writes the number of this sleep into its parked word, fences, looks once more, and only then sleeps; the
other side publishes, fences, reads the parked word, and posts when there is a number it has not posted for. So one of
them always sees the other, and a sleep is posted for once (tests/shm_bridge/test_model.py checks all interleavings).
Under it lies a safety net: no sleep is longer than a slice, so a lost post costs one slice.

Waking takes longer than the last steps of a publication. So the other side may ring BEFORE them and again after: when
the early post has woken the waiter too soon, it looks for a moment (``EARLY_NS``) before it sleeps again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from shm_bridge import native
from shm_bridge.ordering import MASK, fence
from shm_bridge.semaphore import Semaphore

EARLY_NS = 100_000
SPURIOUS_LIMIT = 32
SPURIOUS_SLEEP_S = 0.001


class Bell:
    """Wakes one waiter; silent while it is awake, and for a sleep it was rung for already."""

    __slots__ = ("_flag", "_post", "_rung_for", "_words")

    def __init__(self, words: memoryview, flag: int, semaphore: Semaphore) -> None:
        self._words, self._flag, self._post = words, flag, semaphore.post
        self._rung_for = 0

    def ring(self) -> None:
        """After a fence, when what the waiter waits for is there; or a little earlier, and then once more."""
        number = self._words[self._flag]
        if number and number != self._rung_for:
            self._rung_for = number
            self._post()


class Parking:
    """One waiter's parked word and semaphore.

    Args:
        watch: words, and the bytes seen in them last: whenever the waiter is ready, they differ. For the helper.
    """

    __slots__ = ("_differ", "_flag", "_number", "_slice_s", "_spin_ns", "_words", "semaphore")

    def __init__(
        self, words: memoryview, flag: int, semaphore: Semaphore, spin_us: float, slice_s: float,
        watch: tuple[memoryview, bytearray] | None = None,
    ) -> None:  # fmt: skip
        self._words, self._flag, self.semaphore = words, flag, semaphore
        self._spin_ns = int(spin_us * 1000)
        self._slice_s = slice_s
        self._number = time.monotonic_ns()  # no predecessor's sleep had a number as high
        words[flag] = 0
        helper = native.helper()
        self._differ = None if helper is None or watch is None else partial(helper.glance, *watch)

    def until(self, ready: Callable[[], bool], deadline_ns: int, idle: Callable[[], None]) -> bool:
        """Waits until ``ready()``; False when the deadline (monotonic ns) came first.

        ``idle`` is called after every slept slice; it may raise.
        """
        return ready() or self.longer(ready, deadline_ns, idle)

    def longer(self, ready: Callable[[], bool], deadline_ns: int, idle: Callable[[], None]) -> bool:
        """As :meth:`until`, for one who has looked just now."""
        if self._spin_ns and self._look(ready, min(time.monotonic_ns() + self._spin_ns, deadline_ns)):
            return True
        return self._park(ready, deadline_ns, idle)

    def _look(self, ready: Callable[[], bool], end_ns: int) -> bool:
        now = time.monotonic_ns
        while now() < end_ns:
            for _ in range(16):
                if ready():
                    return True
            os.sched_yield()  # with more spinners than cores the one that is waited for must get its turn
        return False

    def _glance(self, ready: Callable[[], bool], end_ns: int) -> bool:
        """After an early post: what it announced comes within microseconds, unless its sender waits for this core."""
        if self._differ is not None:
            self._differ(end_ns)
            return ready()
        while time.monotonic_ns() < end_ns:
            os.sched_yield()
            if ready():
                return True
        return False

    def _park(self, ready: Callable[[], bool], deadline_ns: int, idle: Callable[[], None]) -> bool:
        words, flag, spurious = self._words, self._flag, 0
        try:
            while True:
                if self.semaphore.value:  # several lanes posted for one sleep: what is left would wake for nothing
                    self.semaphore.drain()
                self._number = words[flag] = (self._number + 1) & MASK or 1
                fence()
                if ready():
                    return True
                left = deadline_ns - time.monotonic_ns()
                if left <= 0:
                    return False
                woken = self.semaphore.wait(min(left * 1e-9, self._slice_s))
                if ready():
                    return True
                if not woken:
                    idle()
                    continue
                words[flag] = 0
                if self._glance(ready, min(time.monotonic_ns() + EARLY_NS, deadline_ns)):
                    return True
                spurious += 1  # a post nobody meant for us any more, or a semaphore somebody filled
                if spurious > SPURIOUS_LIMIT:
                    time.sleep(SPURIOUS_SLEEP_S)
                    idle()
        finally:
            words[flag] = 0
