"""Ray: starts or joins it, and makes this project's actors on it.

One machine is the same code with one node: a sidecar host a node, rollout workers spread over the nodes (each talks to
its own node's sidecar), learners one a GPU, or one on a machine without. Where: :mod:`verl.trainer.placement`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from verl.config import Config
from verl.errors import ConfigError, RunFailedError
from verl.trainer import ray_wait
from verl.trainer.actor_environment import for_actors
from verl.trainer.heartbeat import reporting
from verl.trainer.load_limits import LoadLimit
from verl.trainer.memory_layout import Layout
from verl.trainer.memory_plan import store_wanted
from verl.trainer.placement import Placement, make_plan
from verl.trainer.ray_store import own_store_bytes
from verl.trainer.watchdog import ray_faults
from verl.workers.learner import Learner, LearnerOptions
from verl.workers.rollout import RolloutOptions, RolloutWorker
from verl.workers.sidecar_host import SidecarHost, write_sidecar_settings

logger = logging.getLogger(__name__)
START_TIMEOUT_S = 300.0


def start_ray(config: Config) -> Path | None:
    """Joins ``trainer.ray_address``, or starts a Ray of our own on this machine; then returns its session folder.

    Raises:
        ConfigError: no cluster answers at that address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # OpenMP's threads spin while they wait: beside simulators and a critic on the same cores an update takes 10 times
    # as long. All actors, environment processes and sidecars inherit this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own default, 15, starves actors beside ordinary programs
    remote_critic = config.critic.sidecar.config.get("openai")
    key = remote_critic.get("api_key_env") if isinstance(remote_critic, dict) else None
    runtime: dict[str, Any] = {"env_vars": for_actors(os.environ, key)}
    if (quoted := shlex.quote(sys.executable)) != sys.executable:  # Ray hands it to a shell as it is
        runtime["py_executable"] = quoted
    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": runtime,
    }
    address = config.trainer.ray_address
    if address is not None:
        try:
            ray.init(address=address, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"trainer.ray_address={address}: no Ray cluster answers there ({error})") from None
        return None
    del common["runtime_env"]  # here everything is inherited, and no worker is started through a shell
    learners = config.actor.fsdp_config.world_size or max(1, torch.cuda.device_count())
    # Logical CPUs only count actors here; what they really use is the threads that the configuration gives them.
    context: Any = ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, 1 + config.rollout.workers + learners),
        object_store_memory=own_store_bytes(store_wanted(config, Layout.of(config, torch.cuda.device_count()))),
        include_dashboard=False,
        configure_logging=True,
        _system_config={"task_events_report_interval_ms": 0},  # for a dashboard: 100,000 calls kept in the gcs
        **common,
    )
    return Path(context.address_info["session_dir"])


@dataclass(slots=True, eq=False)
class Node:
    """A Ray node that takes part: it holds bundle ``place`` of the placement group, and a sidecar."""

    place: int
    run_id: str
    node_id: str
    address: str
    sidecar: Any = None
    ready: Any = None  # of one that comes later: when its sidecar is ready, without one its cards are known
    workers: list[Any] = field(default_factory=list)
    cards: Any = None  # a call that tells which of its GPUs are the run's; None: none, or all that are seen


class Cluster:
    """The nodes that take part, and the actors on them.

    A node that dies is left out; another takes its place, with a sidecar of its own, when the cluster has one to spare.
    """

    def __init__(self, config: Config, run_id: str, logs: Path, note: Callable[[str], None]) -> None:
        """Takes the room that the run needs. Raises ConfigError when the cluster has not got it."""
        self.config, self.logs, self.note = config, logs, note
        alive = _living()
        plan = make_plan(config, [node["Resources"].get("GPU", 0) for node in alive.values()])
        self.placement = Placement(plan, ray.get_runtime_context().get_node_id())
        # The same run id on every node would do on different machines; several Ray nodes on one machine need their own.
        count = config.trainer.nnodes
        self._names = [f"{run_id}-n{i}" if count > 1 else run_id for i in range(count)]
        self.nodes = [self._node(place, alive[node_id]) for place, node_id in self.placement.where().items()]
        self._coming: list[Node] = []
        self._unfit: set[str] = set()  # nodes on which no sidecar would start
        self._seats: dict[int, int] = {}  # rollout worker -> place
        self._with_sidecars = False
        calls = [node.cards for node in self.nodes if node.cards is not None]
        ray_wait.get(calls, START_TIMEOUT_S, "which GPUs of the nodes are the run's")

    def _node(self, place: int, node: Mapping[str, Any]) -> Node:
        """One on which nothing of the run has a GPU yet; and nothing takes one before its cards are known."""
        shared = self.config.trainer.ray_address is not None  # other runs may have GPUs there
        cards = self.placement.cards(place) if shared and self.placement.plan.gpus[place] else None
        return Node(place, self._names[place], node["NodeID"], node["NodeManagerAddress"], cards=cards)

    def look(self) -> list[Node]:
        """Asks Ray which nodes live: the dead are left out, those that come in their place are made ready.

        Returns:
            Those that take part.

        Raises:
            RunFailedError: none is left.
        """
        alive = _living()
        for node in [node for node in self.nodes if node.node_id not in alive]:
            self.nodes.remove(node)
            logger.warning("node %s (%s, sidecar %s) is gone", node.node_id, node.address, node.run_id)
            self.note(f"a node died ({node.address}): the run goes on with {len(self.nodes)} node(s)")
            for worker in node.workers:  # also one that was to start there and would wait for ever
                ray.kill(worker)
        if not self.nodes:
            why = ": " + "; ".join(faults) if (faults := ray_faults(ask=False)) else ""
            raise RunFailedError(f"for Ray all nodes that took part have died{why}")
        if len(self.nodes) < len(self._names):
            self._take_in(alive)
        return self.nodes

    def _take_in(self, alive: Mapping[str, Mapping[str, Any]]) -> None:
        """Starts sidecars on nodes to which Ray has moved a bundle; they take part when theirs is ready."""
        self._coming = [node for node in self._coming if node.node_id in alive]
        known = {node.place for node in (*self.nodes, *self._coming)}
        for place, node_id in self.placement.where().items():
            if place not in known and node_id in alive and node_id not in self._unfit:
                self._coming.append(node := self._node(place, alive[node_id]))
                logger.warning("node %s (%s) takes the place of the lost one", node.node_id, node.address)
                node.ready = node.cards
                if self._with_sidecars:
                    self.make_host(node)
                    if self.config.critic.sidecar.start:
                        node.sidecar.start.remote()
                    node.ready = node.sidecar.wait_ready.remote(LoadLimit.of_critic(self.config.critic).seconds)
        for node in list(self._coming):
            if node.ready is None or ray.wait([node.ready], timeout=0)[0]:
                self._join(node)

    def _join(self, node: Node) -> None:
        try:
            if node.ready is not None:
                ray.get(node.ready)
        except RayActorError:  # it died, too: the next look leaves it out
            return
        except RayTaskError as error:
            self._coming.remove(node)
            self._unfit.add(node.node_id)
            logger.warning("no sidecar on node %s (%s): it is left out: %s", node.node_id, node.address, error.cause)
            return
        self._coming.remove(node)
        self.nodes = sorted([*self.nodes, node], key=lambda one: one.place)
        self.note(f"another node took its place ({node.address})")

    def start_sidecars(self, timeout: float) -> list[Any]:
        """Starts one a node. Returns calls that end when they are ready, in ``timeout`` seconds at most; none of those
        that load last (``loads_last``), for which :meth:`load_sidecars` does."""
        critic = self.config.critic
        last = critic.sidecar.loads_last
        self._with_sidecars = True
        for node in self.nodes:
            self.make_host(node)
        if self.config.critic.sidecar.start:
            starts = [node.sidecar.start.remote(last) for node in self.nodes]
            ray_wait.get(starts, START_TIMEOUT_S, "the start of the actors that keep the sidecars")
        return [] if last else [n.sidecar.wait_ready.remote(timeout) for n in self.nodes]

    def load_sidecars(self, timeout: float) -> list[Any]:
        """The counterpart for those that load last."""
        critic = self.config.critic
        if not (self._with_sidecars and critic.sidecar.loads_last):
            return []
        return [node.sidecar.load.remote(timeout) for node in self.nodes]

    def make_host(self, node: Node) -> None:
        """The host of the sidecar on ``node``, also in the place of one that died; it has not started it yet."""
        critic = self.config.critic
        gpus = self.config.trainer.n_gpus_per_node
        settings = write_sidecar_settings(critic, node.run_id, self.logs / f"sidecar-{node.run_id}.yaml", gpus)
        host = reporting(SidecarHost).options(num_cpus=1, scheduling_strategy=self.placement.at(node.place))
        node.sidecar = host.remote(
            node.run_id,
            str(settings),
            str(self.logs / f"sidecar-{node.run_id}.log"),
            critic.sidecar.python,
            critic.sidecar.max_restarts,
            node.cards,
        )

    def stop_sidecars(self, timeout: float) -> None:
        """Asks all of them to end, waits for that."""
        hosts = [node.sidecar for node in (*self.nodes, *self._coming) if node.sidecar is not None]
        ray_wait.settle([host.stop.remote() for host in hosts], timeout, "the end of the sidecars")

    def rollout_worker(self, index: int, options: RolloutOptions) -> Any:
        """A rollout worker on the node that its number falls to, or on another living one; bound to its sidecar."""
        nodes = self.look()
        home = index % len(self._names)
        node = next((node for node in nodes if node.place == home), nodes[index % len(nodes)])
        self._seats[index] = node.place
        pool = {**options.pool, "name": f"w{index}"}
        if pool.get("critic") is not None:
            pool["critic"] = dataclasses.replace(pool["critic"], run_id=node.run_id)
        bound = dataclasses.replace(options, pool=pool)
        if node.place != home:
            bound = self._as_guest(bound, node, index)
        worker = (
            reporting(RolloutWorker)
            .options(
                num_cpus=1 if node.place == home else 0,  # a guest: its host's CPUs are all given away
                num_gpus=bound.gpus,
                scheduling_strategy=self.placement.at(node.place),
            )
            .remote(bound)
        )
        node.workers.append(worker)
        return worker

    def _as_guest(self, options: RolloutOptions, node: Node, index: int) -> RolloutOptions:
        """A guest takes a share of the host's GPUs where one is left. Else it would wait for Ray without end: it asks
        for none, and computes on a card of another worker there."""
        others = [
            i
            for i, place in self._seats.items()
            if i != index and place == node.place and i % len(self._names) != place
        ]
        if not options.gpus or len(others) < self.placement.plan.guests(node.place):
            return options
        self.note(f"rollout worker {index} shares a GPU with another on {node.address}: none is left there")
        cards = [] if node.cards is None else ray.get(node.cards)
        visible = cards[index % len(cards)] if cards else None
        return dataclasses.replace(options, gpus=0.0, device="cuda", visible=visible)

    def away(self, index: int) -> bool:
        """Whether a rollout worker is a guest on another node although its own place has a node again."""
        home = index % len(self._names)
        return self._seats[index] != home and any(node.place == home for node in self.nodes)

    def learners(self, options: LearnerOptions) -> list[Any]:
        """All ranks, made together: they meet in torch.distributed."""
        plan, at = self.placement.plan, self.placement.at
        find_port = ray.remote(_free_port).options(num_cpus=0, scheduling_strategy=at(plan.learners[0]))
        (port,) = ray_wait.get([find_port.remote()], START_TIMEOUT_S, "a port for the learners")
        address = f"{self.nodes[plan.learners[0]].address}:{port}"
        make, world = reporting(Learner), len(plan.learners)
        options = dataclasses.replace(options, gpus=plan.learner_gpus)
        return [
            make.options(num_cpus=1, num_gpus=plan.learner_gpus, scheduling_strategy=at(place)).remote(
                options, rank, world, address
            )
            for rank, place in enumerate(plan.learners)
        ]


def _living() -> dict[str, Mapping[str, Any]]:
    """Ray's description of each living node, by its id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
