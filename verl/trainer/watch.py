"""The nodes' sidecars as one: watched while episodes run, told the phases, left out with a node that dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from verl.errors import SidecarLostError
from verl.trainer.cluster import Cluster, Node

logger = logging.getLogger(__name__)
INTERVAL_S = 1.0
PHASE_TIMEOUT_S = 60.0
NODE_LOSS_S = 60.0  # Ray needs so long at most to notice that a node is gone


@dataclass(slots=True)
class _Watched:
    pending: Any = None
    restarts: int = 0  # of the sidecar, by its host
    hosts_lost: int = 0
    silent_since: float | None = None


class Sidecars:
    """Call :meth:`tick` now and then: it never waits.

    A host that dies on a living node is replaced, ``max_restarts`` times; a dead node takes its sidecar with it.

    Args:
        watched: False where the sidecars are somebody else's: then only the phases are passed on.
    """

    def __init__(self, cluster: Cluster, watched: bool, max_restarts: int, note: Callable[[str], None]) -> None:
        self.cluster, self.watched, self.max_restarts, self.note = cluster, watched, max_restarts, note
        self._by_node: dict[str, _Watched] = {}
        self._last = 0.0

    def _nodes(self) -> list[Node]:
        return [node for node in self.cluster.nodes if node.sidecar is not None]

    def tick(self) -> None:
        """Takes in what the hosts answered; once a second asks again, and Ray which nodes live.

        Raises:
            SidecarLostError: a sidecar is gone for good.
        """
        ask = time.monotonic() - self._last >= INTERVAL_S
        if ask:
            self._last = time.monotonic()
            self.cluster.look()
        if not self.watched:
            return
        for node in self._nodes():
            state = self._by_node.setdefault(node.node_id, _Watched())
            if state.pending is not None and ray.wait([state.pending], timeout=0)[0]:
                call, state.pending = state.pending, None
                self._take(node, state, call)
            if ask and state.pending is None:
                state.pending = node.sidecar.check.remote()

    def _take(self, node: Node, state: _Watched, call: Any) -> None:
        try:
            restarts = ray.get(call) or 0  # a start has no result
        except RayTaskError as error:
            raise SidecarLostError(str(error.cause)) from None
        except RayActorError as error:
            self._host_is_gone(node, state, error)
            return
        state.silent_since = None
        if restarts > state.restarts:
            state.restarts = restarts
            self.note(f"the sidecar died and was started again (restart {restarts})")

    def _host_is_gone(self, node: Node, state: _Watched, error: RayActorError) -> None:
        if node not in self.cluster.look():
            return
        state.silent_since = state.silent_since or time.monotonic()
        if isinstance(error, ActorUnavailableError) and time.monotonic() - state.silent_since < NODE_LOSS_S:
            return  # perhaps its node is dying: Ray will know soon
        state.hosts_lost += 1
        if state.hosts_lost > self.max_restarts:
            raise SidecarLostError(f"the actor that keeps the sidecar died again and again: {error}")
        self.note("the actor that keeps the sidecar died: another is started")
        state.silent_since = None
        self.cluster.make_host(node)
        state.pending = node.sidecar.start.remote()

    def phase(self, name: str) -> None:
        """Told to every node's sidecar, acknowledged by it."""
        nodes = self._nodes()
        calls = [node.sidecar.phase.remote(name, PHASE_TIMEOUT_S) for node in nodes]
        for node, call in zip(nodes, calls):
            try:
                ray.get(call, timeout=PHASE_TIMEOUT_S + 30)
            except RayActorError as error:
                self._wait_for_loss(node, error)

    def _wait_for_loss(self, node: Node, error: RayActorError) -> None:
        deadline = time.monotonic() + NODE_LOSS_S
        while node in self.cluster.look():
            if time.monotonic() > deadline:
                raise SidecarLostError(f"the actor that keeps the sidecar died: {error}") from None
            time.sleep(INTERVAL_S)
