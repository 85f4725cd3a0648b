"""Words in shared memory, and the order in which other processes see them.

A word is 8 bytes, aligned, read and written through ``memoryview.cast('Q')``: CPython copies it with one constant-size
memcpy, which is one load or store instruction. (``struct`` with ``<`` or ``>`` goes byte by byte: never for a word that
another process polls.) x86 keeps stores in order, and loads in order, so "payload first, sequence last" needs nothing;
only a store followed by a load of ANOTHER word (the parked flags) needs a fence. ARM orders nothing by itself: there
every publication is fenced too.
"""

from __future__ import annotations

import platform
import threading

MASK = (1 << 64) - 1
HALF = 1 << 63
TOTAL_STORE_ORDER = platform.machine() in ("x86_64", "AMD64", "i686")

_lock = threading.Lock()
_acquire, _release = _lock.acquire, _lock.release


def _fence_x86() -> None:
    """A locked instruction is a full barrier on x86; taking a free lock is one, and costs 60 ns."""
    if _acquire(False):
        _release()


def _fence_weak() -> None:
    """ARMv8: a release followed by an acquire orders everything before the one and after the other."""
    for _ in range(2):
        if _acquire(False):
            _release()


def _no_fence() -> None:
    """Stores stay in order by themselves."""


fence = _fence_x86 if TOTAL_STORE_ORDER else _fence_weak
publish_fence = _no_fence if TOTAL_STORE_ORDER else _fence_weak


def at_or_before(a: int, b: int) -> bool:
    """Whether sequence number ``a`` is ``b`` or older, modulo 2**64."""
    return (b - a) & MASK < HALF
