"""Spin, then park: how either side waits for a word to change, and how the other side wakes it.

The waiter writes the number of this sleep into its parked word, fences, looks once more, and only then sleeps; the
other side publishes, fences, reads the parked word, and posts when there is a number it has not posted for. So one of
them always sees the other, and a sleep is posted for once (sync/test_model.py checks all interleavings).
Under it lies a safety net: no sleep is longer than a slice, so a lost post costs one slice.

Waking takes longer than the last steps of a publication. So the other side may ring BEFORE them and again after: when
the early post has woken the waiter too soon, it looks for a moment (``EARLY_NS``) before it sleeps again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from shm_bridge.sync.ordering import MASK, fence
from shm_bridge.sync.semaphore import Semaphore

EARLY_NS = 100_000
SLICE_NS = 100_000_000  # no sleep is longer
SPURIOUS_LIMIT = 32
SPURIOUS_SLEEP_S = 0.001
UNDISTURBED, WOKEN, THERE = 0, 1, 2  # how a sleep ended
Ready = Callable[[], bool]


class Bell:
    """Wakes one waiter; silent while it is awake, and for a sleep it was rung for already."""

    __slots__ = ("_closed", "_flag", "_post", "_rung_for", "_words")

    def __init__(self, words: memoryview, flag: int, semaphore: Semaphore) -> None:
        self._words, self._flag, self._post = words, flag, semaphore.post
        self._rung_for = 0
        self._closed = False

    def ring(self) -> None:
        """After a fence, when what the waiter waits for is there; or a little earlier, and then once more."""
        if self._closed:
            return
        number = self._words[self._flag]
        if number and number != self._rung_for:
            self._rung_for = number
            self._post()

    def close(self) -> None:
        """Silent from here on: the semaphore is about to be closed."""
        self._closed = True


class LaneBell:
    """One lane's word among the bells, + 1 whenever the sidecar should look, and the sidecar's doorbell.

    Attributes:
        rings: the word, which nobody else writes.
    """

    __slots__ = ("_bell", "_bells", "_index", "announce", "rings")

    def __init__(self, bells: memoryview, index: int, bell: Bell) -> None:
        self._bells, self._index, self._bell = bells, index, bell
        self.rings = bells[index]
        self.announce = bell.ring  # what is about to be published: a parked sidecar wakes, and looks for a moment

    def ring(self) -> None:
        """Tells the sidecar that there is something; wakes it only when it is parked."""
        self.rings = self._bells[self._index] = (self.rings + 1) & MASK
        fence()
        self._bell.ring()

    def close(self) -> None:
        self._bell.close()


class Sleeper:
    """One waiter's parked word and semaphore.

    Attributes:
        number: of its last sleep.
    """

    __slots__ = ("_flag", "_semaphore", "_words", "number")

    def __init__(self, words: memoryview, flag: int, semaphore: Semaphore) -> None:
        self._words, self._flag, self._semaphore = words, flag, semaphore
        self.number = time.monotonic_ns()  # no predecessor's sleep had a number as high
        words[flag] = 0

    def doze(self, ready: Ready, until_ns: int) -> int:
        """One sleep and, after an early post, a moment's look: ``THERE``, ``WOKEN`` (too soon) or ``UNDISTURBED``."""
        words, flag, semaphore = self._words, self._flag, self._semaphore
        if semaphore.value:  # several lanes posted for one sleep: what is left would wake for nothing
            semaphore.drain()
        self.number = (self.number + 1) & MASK or 1
        try:
            words[flag] = self.number
            fence()
            if ready():
                return THERE
            woken = semaphore.wait((until_ns - time.monotonic_ns()) * 1e-9)
        finally:
            words[flag] = 0
        if ready():
            return THERE
        end_ns = time.monotonic_ns() + EARLY_NS
        while woken and time.monotonic_ns() < end_ns:
            os.sched_yield()  # its sender may wait for this core
            if ready():
                return THERE
        return WOKEN if woken else UNDISTURBED


class Parking:
    """How one waiter waits: spins, sleeps in slices, and looks in between whether waiting makes sense.

    What a wait is for is a callable, ``ready``. Where it has a method ``spin`` (native code's have), that looks instead
    of being called again and again.
    """

    __slots__ = ("_spin_ns", "sleeper")

    def __init__(self, sleeper: Sleeper, spin_us: float) -> None:
        self.sleeper = sleeper
        self._spin_ns = int(spin_us * 1000)

    def until(self, ready: Ready, deadline_ns: int, idle: Callable[[], None], spun: bool = False) -> bool:
        """Waits until ``ready()``; False when the deadline (monotonic ns) came first.

        Args:
            idle: called after every slept slice; it may raise.
            spun: the caller has spun already.
        """
        return ready() or self.longer(ready, deadline_ns, idle, spun)

    def longer(self, ready: Ready, deadline_ns: int, idle: Callable[[], None], spun: bool = False) -> bool:
        """As :meth:`until`, for one who has looked just now."""
        if self._spin_ns and not spun and self._spin(ready, min(time.monotonic_ns() + self._spin_ns, deadline_ns)):
            return True
        return self._park(ready, deadline_ns, idle)

    def _spin(self, ready: Ready, end_ns: int) -> bool:
        spin: Callable[[int], bool] | None = getattr(ready, "spin", None)
        if spin is not None:
            return spin(end_ns)
        while time.monotonic_ns() < end_ns:
            for _ in range(16):
                if ready():
                    return True
            os.sched_yield()  # with more spinners than cores the one that is waited for must get its turn
        return False

    def _park(self, ready: Ready, deadline_ns: int, idle: Callable[[], None]) -> bool:
        spurious = 0
        while True:
            now = time.monotonic_ns()
            if now >= deadline_ns:
                return ready()
            outcome = self.sleeper.doze(ready, min(now + SLICE_NS, deadline_ns))
            if outcome == THERE:
                return True
            if outcome == WOKEN:
                spurious += 1  # a post nobody meant for us any more, or a semaphore somebody filled
                if spurious <= SPURIOUS_LIMIT:
                    continue
                time.sleep(SPURIOUS_SLEEP_S)
            idle()
