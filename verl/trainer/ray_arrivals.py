"""Actors whose process does not come: named on the screen after a minute, with what Ray's log knows of it.

Ray waits for such a process for ever, and starts it again and again: nothing else tells of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state
from ray.exceptions import RayError

logger = logging.getLogger(__name__)
LOOK_S = 5.0
LATE_S = 60.0
TELLING = ("raylet.err", "gcs_server.err")  # what a program says that could not be started
LINES = 3


class Arrivals:
    """Looks at Ray's table of actors. One that loads its model has come: its process is there.

    Args:
        note: says what is late.
        session: Ray's session folder, where it is on this machine.
    """

    def __init__(
        self, note: Callable[[str], None], session: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.note, self.session, self.clock = note, session, clock
        self._looked = clock() - LOOK_S
        self._since: dict[str, float] = {}  # actors without a process -> when they were first seen
        self._said: set[str] = set()

    def look(self) -> None:
        """To be called about once a second."""
        now = self.clock()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        waiting = awaited_actors()
        self._since = {actor: self._since.get(actor, now) for actor in waiting}
        for actor, since in self._since.items():
            if now - since >= LATE_S and actor not in self._said:
                self._said.add(actor)
                message = f"Ray has not started the process of a {waiting[actor]} within {LATE_S:.0f} s; {self._told()}"
                self.note(message)

    def _told(self) -> str:
        """The last of what Ray's daemons complained of."""
        if self.session is None:
            return "the logs of the Ray cluster know why"
        logs = self.session / "logs"
        lines = [line.strip() for name in TELLING for line in _lines(logs / name) if line.strip()]
        last = list(dict.fromkeys(lines))[-LINES:]
        return f"Ray's log says: {'; '.join(last)}" if last else f"Ray's log says nothing of it; its logs: {logs}"


def awaited_actors() -> dict[str, str]:
    """This driver's actors that have no process yet: their classes by their ids."""
    try:
        table: Mapping[str, Mapping[str, Any]] = state.actor_table(None, job_id=ray.JobID.from_hex(_job()))
    except (RayError, AttributeError, TypeError, AssertionError) as error:
        logger.warning("Ray's table of actors cannot be read: %s", error)  # a private way, and it may be ending
        return {}
    return {
        actor: str(row["ActorClassName"])
        for actor, row in table.items()
        if row["State"] in ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING") and not row["Pid"]
    }


def _job() -> str:
    return str(ray.get_runtime_context().get_job_id())


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
