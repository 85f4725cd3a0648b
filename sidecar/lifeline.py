"""The pipe between supervisor and service: the service says ready, beats, and says why it ends.

    service --{"event": ...}\\n--> pipe --> supervisor          (one way; its end tells of the other side's death)

A service also dies with its supervisor: the kernel is asked to send it SIGKILL then.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_BEAT_EVERY_S = 0.5


def die_with(parent: int) -> None:
    """SIGKILL for this process when its parent, process ``parent``, dies. Exits when it is dead already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Lifeline:
    """The service's end. ``descriptor`` is inherited."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next_beat = 0.0
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)

    def say(self, event: str, **fields: Any) -> None:
        """One event. A supervisor that does not read loses beats, nothing else."""
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._descriptor, line)

    def beat(self) -> None:
        """Still alive; cheap to call more often than needed."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT_EVERY_S
            self.say("beat")


class Listener:
    """The supervisor's end: bytes in, events out."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""
        os.set_blocking(descriptor, False)

    def events(self) -> list[dict[str, Any]]:
        """What has come in since the last call; never blocks."""
        try:
            data = os.read(self.descriptor, 65_536)
        except BlockingIOError:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = []
        for line in lines:
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
        return events

    def close(self) -> None:
        os.close(self.descriptor)
