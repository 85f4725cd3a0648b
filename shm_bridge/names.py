"""Names in /dev/shm. A run id never holds a colon, so no two runs' names can be taken for each other.

vlac:<run>:lock                the lock file: who lives (see liveness/locks.py)
vlac:<run>:control             the control segment
vlac:<run>:lane.<i>.<gen>      a lane's segment
sem.vlac:<run>:bell.<inst>     the sidecar's doorbell
sem.vlac:<run>:lane.<i>.<gen>  a worker's doorbell
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shm_bridge.spec import checked_name

SHM = Path("/dev/shm")
PREFIX = "vlac"
MAX_RUN_ID = 48
ENTRY = re.compile(
    rf"(?P<sem>sem\.)?{PREFIX}:(?P<run>[A-Za-z0-9_.-]+):"
    r"(?P<part>lock|control|control\.new|bell\.[0-9a-f]{1,16}|lane\.(?P<lane>\d{1,6})\.(?P<generation>[0-9a-f]{1,16}))"
)


class Entry(NamedTuple):
    """A file of ours in /dev/shm."""

    file: str
    run_id: str
    part: str
    lane: int | None
    is_semaphore: bool


def checked_run_id(run_id: str) -> str:
    return checked_name("run_id", run_id, MAX_RUN_ID)


def lock_path(run_id: str) -> Path:
    return SHM / f"{PREFIX}:{run_id}:lock"


def control_name(run_id: str) -> str:
    return f"/{PREFIX}:{run_id}:control"


def bell_name(run_id: str, instance: int) -> str:
    return f"/{PREFIX}:{run_id}:bell.{instance:x}"


def lane_name(run_id: str, lane: int, generation: int) -> str:
    """Of the lane's segment and of its semaphore alike: they live in name spaces of their own."""
    return f"/{PREFIX}:{run_id}:lane.{lane}.{generation:x}"


def entries(run_id: str | None = None) -> Iterator[Entry]:
    """Files of ours in /dev/shm, of one run or of all; nothing else is ever looked at."""
    for file in sorted(os.listdir(SHM)) if SHM.is_dir() else ():
        match = ENTRY.fullmatch(file)
        if match and (run_id is None or match["run"] == run_id):
            lane = int(match["lane"]) if match["lane"] else None
            yield Entry(file, match["run"], match["part"], lane, bool(match["sem"]))
