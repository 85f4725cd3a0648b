"""What the trainer tells its launcher: one way, through a pipe that ends with the trainer.

    trainer --{"event": ...}\\n--> pipe --> launcher      folder, ray (its session), patience, end

The launcher reads when it is asked to stop, and when the trainer has ended. Without an ``end`` it was killed, or C++
code of a library called ``exit``: nobody else then tells the user.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

VARIABLE = "VERL_LAUNCH_PIPE"
PATIENCE = "patience"  # seconds that the trainer, asked to stop, may take for a checkpoint
_descriptor: int | None = None


def take_over() -> None:
    """In the trainer, before it starts anything: finds the pipe and keeps it from its children."""
    global _descriptor
    number = os.environ.pop(VARIABLE, None)
    if number is not None:
        _descriptor = int(number)
        os.set_inheritable(_descriptor, False)
        os.set_blocking(_descriptor, False)


def say(event: str, **fields: Any) -> None:
    """One event; lost without a launcher, or when it is gone."""
    if _descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(_descriptor, json.dumps({"event": event, **fields}).encode() + b"\n")


class Ear:
    """The launcher's end, a descriptor."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._events = descriptor, dict[str, dict[str, Any]]()

    def heard(self) -> dict[str, dict[str, Any]]:
        """The last of each event so far, by its name. Never blocks."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self._descriptor, 65_536):
                data += block
        for line in data.splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                self._events[event.pop("event")] = event
        return self._events
