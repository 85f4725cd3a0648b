"""What the trainer tells its launcher: one way, through a pipe that ends with the trainer.

    trainer --{"event": ...}\\n--> pipe --> launcher      folder, ray (its session), end

The launcher reads when the trainer has ended. Without an ``end`` it was killed, or C++ code of a library called
``exit``: nobody else then tells the user.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

VARIABLE = "VERL_LAUNCH_PIPE"
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


def heard(descriptor: int) -> dict[str, dict[str, Any]]:
    """In the launcher, after the trainer's end: the last of each event by its name. Never blocks."""
    os.set_blocking(descriptor, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while block := os.read(descriptor, 65_536):
            data += block
    events: dict[str, dict[str, Any]] = {}
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            events[event.pop("event")] = event
    return events
