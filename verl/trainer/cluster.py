"""Ray: starts or joins it, and makes this project's actors on it.

One machine is the same code with one node: a sidecar host a node, rollout workers spread over the nodes (each talks to
its own node's sidecar), learners one a GPU, or one on a machine without.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from verl.config import Config
from verl.errors import ConfigError, RunFailedError
from verl.workers.learner import Learner, LearnerOptions
from verl.workers.rollout import RolloutOptions, RolloutWorker
from verl.workers.sidecar_host import SidecarHost

logger = logging.getLogger(__name__)
START_TIMEOUT_S = 300.0
OBJECT_STORE_BYTES = 256 * 2**20  # on a machine of our own; a cluster has its own setting


def start_ray(config: Config, log_folder: Path) -> None:
    """Joins ``trainer.ray_address``, or starts a Ray of our own on this machine."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # OpenMP's threads spin while they wait: beside simulators and a critic on the same cores an update takes 10 times
    # as long. All actors, environment processes and sidecars inherit this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    runtime = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))}}
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
    else:
        del common["runtime_env"]
        # Logical CPUs only count actors here; what they really use is the threads that the configuration gives them.
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, config.rollout.workers + 4),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            configure_logging=True,
            **common,
        )


@dataclass(slots=True, eq=False)
class Node:
    """A Ray node that takes part, and its sidecar."""

    node_id: str
    address: str
    gpus: float
    run_id: str
    sidecar: Any = None

    def here(self) -> NodeAffinitySchedulingStrategy:
        return NodeAffinitySchedulingStrategy(self.node_id, soft=False)


class Cluster:
    """The nodes that take part, and the actors on them. A node that dies is left out from then on."""

    def __init__(self, config: Config, run_id: str, logs: Path, note: Callable[[str], None]) -> None:
        self.config, self.logs, self.note = config, logs, note
        own = ray.get_runtime_context().get_node_id()
        alive = [n for n in ray.nodes() if n["Alive"]]
        wanted = config.trainer.nnodes
        if len(alive) < wanted:
            raise ConfigError(f"trainer.nnodes={wanted}: the Ray cluster has {len(alive)} node(s)")
        # Those with GPUs first; among them the driver's own, whose loss ends the run anyway.
        alive.sort(key=lambda n: (-n["Resources"].get("GPU", 0), n["NodeID"] != own, n["NodeID"]))
        # The same run id on every node would do on different machines; several Ray nodes on one machine need their own.
        names = [f"{run_id}-n{i}" if wanted > 1 else run_id for i in range(wanted)]
        self.nodes = [
            Node(n["NodeID"], n["NodeManagerAddress"], n["Resources"].get("GPU", 0), name)
            for n, name in zip(alive, names)
        ]
        self.gpus = sum(node.gpus for node in self.nodes)
        self._config_file: Callable[[str], Path] | None = None

    def drop_dead_nodes(self) -> list[Node]:
        """Asks Ray which nodes live; the others take no further part. Returns those that are left.

        Raises:
            RunFailedError: none is left.
        """
        alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
        for node in [n for n in self.nodes if n.node_id not in alive]:
            self.nodes.remove(node)
            logger.warning("node %s (%s, sidecar %s) is gone", node.node_id, node.address, node.run_id)
            self.note(f"a node died ({node.address}): the run goes on with {len(self.nodes)} node(s)")
        if not self.nodes:
            raise RunFailedError("all nodes that took part have died")
        return self.nodes

    def start_sidecars(self, write_config: Callable[[str], Path]) -> None:
        """Starts one a node; does not wait until it is ready. ``write_config(run_id) -> path`` makes each file."""
        self._config_file = write_config
        for node in self.nodes:
            self.make_host(node)
        if self.config.critic.sidecar.start:
            ray.get([node.sidecar.start.remote() for node in self.nodes], timeout=START_TIMEOUT_S)

    def make_host(self, node: Node) -> None:
        """The host of the sidecar on ``node``, also in the place of one that died; it has not started it yet."""
        critic = self.config.critic
        assert self._config_file is not None
        host = ray.remote(SidecarHost).options(num_cpus=0, scheduling_strategy=node.here())
        node.sidecar = host.remote(
            node.run_id,
            str(self._config_file(node.run_id)),
            str(self.logs / f"sidecar-{node.run_id}.log"),
            critic.sidecar.python,
            critic.sidecar.max_restarts,
        )

    def rollout_worker(self, index: int, options: RolloutOptions) -> Any:
        """A rollout worker on the living node that its number falls to, bound to that node's sidecar."""
        nodes = self.drop_dead_nodes()
        node = nodes[index % len(nodes)]
        pool = {**options.pool, "name": f"w{index}"}
        if pool.get("bridge") is not None:
            pool["bridge"] = dataclasses.replace(pool["bridge"], run_id=node.run_id)
        bound = dataclasses.replace(options, pool=pool)
        return ray.remote(RolloutWorker).options(
            num_cpus=1, num_gpus=self.config.rollout.gpus_per_worker, scheduling_strategy=node.here(),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(options.threads)}},
        ).remote(bound)  # fmt: skip

    def learners(self, options: LearnerOptions) -> list[Any]:
        """All ranks, made together (they meet in torch.distributed): spread evenly; without GPUs on the first node."""
        world = self.config.actor.fsdp_config.world_size or max(1, int(self.gpus))
        per_rank = 0.0 if self.gpus == 0 else min(1.0, self.gpus / world) - self._rollout_share(world)
        if self.gpus and per_rank <= 0:
            raise RunFailedError(
                f"{self.gpus:.0f} GPU(s) are not enough for {world} learner(s) beside the rollout workers"
            )
        nodes = self.nodes if self.gpus else self.nodes[:1]
        places = [nodes[rank * len(nodes) // world] for rank in range(world)]
        find_port = ray.remote(_free_port).options(num_cpus=0, scheduling_strategy=places[0].here())
        address = f"{places[0].address}:{ray.get(find_port.remote(), timeout=START_TIMEOUT_S)}"
        make = ray.remote(Learner)
        return [
            make.options(num_cpus=1, num_gpus=per_rank, scheduling_strategy=place.here()).remote(
                options, rank, world, address
            )
            for rank, place in enumerate(places)
        ]

    def _rollout_share(self, world: int) -> float:
        return self.config.rollout.gpus_per_worker * self.config.rollout.workers * len(self.nodes) / world


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
