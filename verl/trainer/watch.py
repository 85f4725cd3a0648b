"""Keeps an eye on the sidecar hosts while episodes run, without ever waiting for one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from verl.errors import SidecarLostError

logger = logging.getLogger(__name__)
INTERVAL_S = 1.0


class SidecarWatch:
    """Call :meth:`tick` now and then. Raises :class:`SidecarLostError` when a sidecar is gone for good."""

    def __init__(self, hosts: list[Any], note: Callable[[str], None]) -> None:
        self.hosts, self.note = hosts, note
        self.pending: list[Any] = [None] * len(hosts)
        self.restarts = [0] * len(hosts)
        self.last = 0.0

    def tick(self) -> None:
        """Takes in what the hosts answered, asks again once a second."""
        for i, call in enumerate(self.pending):
            if call is not None and ray.wait([call], timeout=0)[0]:
                self.pending[i] = None
                self._take(i, call)
        if time.monotonic() - self.last < INTERVAL_S:
            return
        self.last = time.monotonic()
        for i, host in enumerate(self.hosts):
            if self.pending[i] is None:
                self.pending[i] = host.check.remote()

    def _take(self, index: int, call: Any) -> None:
        try:
            restarts = ray.get(call)
        except RayTaskError as error:
            raise SidecarLostError(str(error.cause)) from None
        except RayActorError as error:
            raise SidecarLostError(f"the actor that keeps the sidecar died: {error}") from None
        if restarts > self.restarts[index]:
            self.restarts[index] = restarts
            self.note(f"the sidecar died and was started again (restart {restarts})")
