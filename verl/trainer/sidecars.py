"""The nodes' sidecars as one: watched while episodes run, told the phases, left out with a node that dies.

sidecar's service  <-- its supervisor  <-- SidecarHost, a Ray actor  <-- Sidecars, here
  died: restarted      died: started anew    died or stopped: another, which ends what the first one left
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from shm_bridge import BridgeError
from verl.errors import SidecarLostError
from verl.trainer import ray_wait
from verl.trainer.cluster import Cluster, Node
from verl.trainer.heartbeat import SILENT_S, Heartbeat
from verl.trainer.load_limits import LoadLimit
from verl.trainer.watchdog import OwnTime

logger = logging.getLogger(__name__)
INTERVAL_S = 1.0
PHASE_TIMEOUT_S = 60.0  # until it is asked for anew
NAMED_S = 90.0  # late for so long: said; a host that is stopped was replaced before
ANEW_S = 0.5  # what fails at once is not asked for anew at once
NODE_LOSS_S = 60.0  # Ray needs so long at most to notice that a node is gone


@dataclass(slots=True)
class _Watched:
    """A node's. ``restarts``: of the sidecar, by the host that is there now."""

    heartbeat: Heartbeat
    pending: Any = None
    restarts: int = 0
    hosts_lost: int = 0
    silent_since: float | None = None


class Sidecars:
    """Call :meth:`tick` now and then: it never waits.

    A host that dies or stops on a living node is replaced, ``max_restarts`` times; a dead node takes its sidecar with
    it.

    Args:
        watched: False where the sidecars are somebody else's: then only the phases are passed on.
        limit: how late a sidecar may be for a phase; one that was just started has to load its model first.
    """

    def __init__(
        self,
        cluster: Cluster,
        watched: bool,
        max_restarts: int,
        note: Callable[[str], None],
        limit: LoadLimit,
    ) -> None:
        self.cluster, self.watched, self.max_restarts, self.note = cluster, watched, max_restarts, note
        self.limit = limit
        self.restarts = self.hosts_lost = 0  # in all; a resumed run goes on counting
        self._clock = OwnTime()
        self._by_node: dict[str, _Watched] = {}
        self._last = 0.0

    def state(self) -> dict[str, int]:
        """How many of each were started in the place of one that was lost: for the summary, and a resumed run."""
        return {"sidecars": self.restarts, "sidecar_hosts": self.hosts_lost}

    def restore(self, state: dict[str, int]) -> None:
        """The counterpart of :meth:`state`."""
        self.restarts, self.hosts_lost = state["sidecars"], state["sidecar_hosts"]

    def _nodes(self) -> list[Node]:
        return [node for node in self.cluster.nodes if node.sidecar is not None]

    def _state(self, node: Node) -> _Watched:
        if node.node_id not in self._by_node:
            self._by_node[node.node_id] = _Watched(Heartbeat(node.sidecar, self._clock))
        return self._by_node[node.node_id]

    # ---- while episodes run

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
            state = self._state(node)
            if state.pending is not None and ray.wait([state.pending], timeout=0)[0]:
                call, state.pending = state.pending, None
                self._take(node, state, call)
            self._replace_if_silent(node, state)
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
            self.restarts += restarts - state.restarts
            state.restarts = restarts
            self.note(f"the sidecar died and was started again (restart {self.restarts})")

    def _host_is_gone(self, node: Node, state: _Watched, error: RayActorError) -> bool:
        """Whether another was started: not while its node may be dying, of which Ray will know soon."""
        if node not in self.cluster.look():
            return False
        state.silent_since = state.silent_since or time.monotonic()
        if isinstance(error, ActorUnavailableError) and time.monotonic() - state.silent_since < NODE_LOSS_S:
            return False
        self._replace(node, state, f"died ({error})", "died")
        return True

    def _replace_if_silent(self, node: Node, state: _Watched) -> bool:
        state.heartbeat.look()
        if (silent := state.heartbeat.silent_s) < SILENT_S or node not in self.cluster.look():
            return False
        story = f"has not answered for {silent:.0f} s ({state.heartbeat.place()})"
        self._replace(node, state, story, story)
        return True

    def _replace(self, node: Node, state: _Watched, reason: str, short: str) -> None:
        state.hosts_lost += 1
        self.hosts_lost += 1
        if state.hosts_lost > self.max_restarts:
            raise SidecarLostError(f"the actor that keeps the sidecar was lost again and again: it {reason}")
        logger.warning("the actor that keeps the sidecar on %s %s: replaced", node.address, reason)
        self.note(f"the actor that keeps the sidecar {short}: another is started")
        ray.kill(node.sidecar)  # Ray ends it by SIGKILL when it does not end itself
        self.cluster.make_host(node)
        state.silent_since, state.restarts = None, 0
        state.heartbeat = Heartbeat(node.sidecar, self._clock)
        state.pending = node.sidecar.start.remote()

    # ---- phases

    def phase(self, name: str) -> None:
        """Told to every node's sidecar, acknowledged by it; what died meanwhile is started again first.

        Raises:
            SidecarLostError: one has not reached it within ``limit``, or cannot be started again.
        """
        open_nodes = {node.node_id: _Request(node, name) for node in self._nodes()}
        for request in open_nodes.values():
            self._ask(request)
        started = time.monotonic()
        while open_nodes:
            if any(request.call is None for request in open_nodes.values()):
                time.sleep(ANEW_S)
            for request in open_nodes.values():
                if request.call is None:
                    self._ask(request)
            ray.wait([r.call for r in open_nodes.values()], num_returns=len(open_nodes), timeout=INTERVAL_S)
            ray_wait.beat(f"the sidecars' phase {name}")
            living = self.cluster.look()
            for node_id, request in list(open_nodes.items()):
                if request.node not in living or self._reached(request):
                    del open_nodes[node_id]
            waited = time.monotonic() - started
            if open_nodes and waited > NAMED_S:
                self._tell_late(next(iter(open_nodes.values())), waited)

    def _tell_late(self, late: _Request, waited: float) -> None:
        """Once that it is waited for; raises SidecarLostError when the time is over."""
        what = f"the sidecar on {late.node.address} did not reach {late.phase} within {waited:.0f} s: {late.story}"
        if waited > PHASE_TIMEOUT_S + self.limit.seconds:
            raise SidecarLostError(f"{what} ({self.limit}; critic.ready_timeout_s={self.limit.least_s:g})")
        if not late.told:
            late.told = True
            logger.warning("%s", what)
            self.note(f"{what}; waiting for it, {self.limit.seconds:.0f} s more at most ({self.limit})")

    def _ask(self, request: _Request) -> None:
        """The host looks first whether the sidecar's process is there."""
        node = request.node
        if self.watched and self._state(node).pending is None:
            self._state(node).pending = node.sidecar.check.remote()
        request.call = node.sidecar.phase.remote(request.phase, PHASE_TIMEOUT_S)

    def _reached(self, request: _Request) -> bool:
        """Takes the host's answer if there is one; whatever is lost is started again, and asked anew."""
        node, state = request.node, self._state(request.node)
        if self.watched and state.pending is not None and ray.wait([state.pending], timeout=0)[0]:
            call, state.pending = state.pending, None
            host = node.sidecar
            self._take(node, state, call)
            if node.sidecar is not host:
                request.again("its host was lost")
                return False
        if not ray.wait([request.call], timeout=0)[0]:
            if self.watched and self._replace_if_silent(node, state):
                request.again("its host did not answer")
            return False
        try:
            ray.get(request.call)
        except RayTaskError as error:
            if not isinstance(error.cause, (BridgeError, SidecarLostError)):
                raise SidecarLostError(f"phase {request.phase}: {error.cause}") from error
            request.again(str(error.cause))
            logger.warning("the sidecar on %s, phase %s: %s", node.address, request.phase, error.cause)
            return False
        except RayActorError as error:
            if self.watched:
                self._host_is_gone(node, state, error)
            request.again(f"its host died: {error}")
            return False
        except RayError as error:
            raise SidecarLostError(f"phase {request.phase}: {error}") from error
        state.silent_since = None
        return True


@dataclass(slots=True)
class _Request:
    """Of a phase, to one node's sidecar. ``story``: why it was not reached so far; ``told``: that it is waited for."""

    node: Node
    phase: str
    call: Any = None
    story: str = "no answer"
    told: bool = False

    def again(self, story: str) -> None:
        self.call, self.story = None, story
