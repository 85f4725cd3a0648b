"""Ctrl-C that cannot get lost, from the first moment on.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback that C code made (a finaliser, or
Ray's own), the exception is printed or dropped, and the run would go on: so it is remembered, and raised again at the
next look. In an import it becomes a traceback, or another error altogether: so long as nothing has been started, the
process just ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

EXIT_CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = False


def leave() -> None:
    """Until :func:`install`: SIGINT and SIGTERM end the process at once. For a process that has started nothing yet."""
    _handle(_leave)


def install() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt, and are remembered. Takes those that the launcher held back, too."""
    _handle(_interrupt)


def asked() -> bool:
    """Whether one came since :func:`install`."""
    return _asked


def look() -> None:
    """Raises KeyboardInterrupt when one was asked for before."""
    if _asked:
        raise KeyboardInterrupt


def _handle(handler: signal._HANDLER) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted: nothing had been started\n")
    os._exit(EXIT_CODE)
