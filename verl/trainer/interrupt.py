"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback that C code made (a finaliser, or
Ray's own), the exception is printed or dropped, and the run would go on: so it is remembered, and raised again at the
next look.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def install() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt, and are remembered."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def look() -> None:
    """Raises KeyboardInterrupt when one was asked for before."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
