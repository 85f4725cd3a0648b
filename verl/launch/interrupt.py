"""Ctrl-C that cannot get lost, from the first moment on.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback that C code made (a finaliser, or
Ray's own), the exception is printed or dropped, and the run would go on: so it is remembered, and raised again at the
next look. In an import it becomes a traceback, or another error altogether: so long as nothing has been started, the
process just ends. Half an update is worth nothing: within :func:`held` a stop waits for the block's end, for a time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 130
NOTHING_STARTED = "interrupted: nothing had been started\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # SIGUSR1: of schedulers, shortly before a job's time is over
_asked: list[tuple[float, int]] = []  # when, by which signal
_held_s = 0.0
_cause: Exception | None = None


def leave() -> None:
    """Until :func:`install`: the signals end the process at once. For a process that has started nothing yet."""
    _handle(_leave)


def install() -> None:
    """The signals raise KeyboardInterrupt, and are remembered. Takes those that the launcher held back, too."""
    _handle(_interrupt)


def asked() -> bool:
    """Whether one came since :func:`install`."""
    return bool(_asked)


def ask(cause: Exception) -> None:
    """The run itself asks for its end in order: as a signal does, but with an error to tell."""
    global _cause
    if not _asked:
        _cause = cause
        _asked.append((time.monotonic(), 0))


def cause() -> Exception | None:
    """What the run asked for its own end for; None where a person or a scheduler did."""
    return _cause


def look() -> None:
    """Raises KeyboardInterrupt when one was asked for before, and is not held back (any more)."""
    impatient = [number for _, number in _asked].count(signal.SIGINT) > 1  # SIGTERM a scheduler sends more than once
    if _asked and (impatient or time.monotonic() - _asked[0][0] >= _held_s):
        raise KeyboardInterrupt


@contextlib.contextmanager
def held(within_s: float) -> Iterator[None]:
    """Within the block a stop waits, at most ``within_s`` seconds after it was asked for; a second Ctrl-C does not.

    The caller calls :func:`look` after the block.
    """
    global _held_s
    before, _held_s = _held_s, within_s
    try:
        yield
    finally:
        _held_s = before


def _handle(handler: signal._HANDLER) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _asked.append((time.monotonic(), number))
    look()


def _leave(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, NOTHING_STARTED.encode())
    os._exit(EXIT_CODE)
