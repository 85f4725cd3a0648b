"""Ray: starts or joins it, and makes this project's actors on it.

One machine is the same code with one node: a sidecar host a node, rollout workers spread over the nodes (each talks to
its own node's sidecar), learners one a GPU, or one on a machine without.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
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


@dataclass(slots=True)
class Node:
    """A Ray node that takes part, and its sidecar."""

    node_id: str
    run_id: str
    sidecar: Any = None

    def here(self) -> NodeAffinitySchedulingStrategy:
        return NodeAffinitySchedulingStrategy(self.node_id, soft=False)


class Cluster:
    """Finds the nodes and makes actors on them; keeps no state of the training."""

    def __init__(self, config: Config, run_id: str, logs: Path) -> None:
        self.config, self.logs = config, logs
        alive = [n for n in ray.nodes() if n["Alive"]]
        wanted = config.trainer.nnodes
        if len(alive) < wanted:
            raise ConfigError(f"trainer.nnodes={wanted}: the Ray cluster has {len(alive)} node(s)")
        # The same run id on every node would do on different machines; several Ray nodes on one machine need their own.
        names = [f"{run_id}-n{i}" if wanted > 1 else run_id for i in range(wanted)]
        self.nodes = [Node(n["NodeID"], name) for n, name in zip(sorted(alive, key=lambda n: n["NodeID"]), names)]
        self.gpus = sum(n["Resources"].get("GPU", 0) for n in alive)

    def start_sidecars(self, write_config: Any) -> None:
        """Starts one a node (does not wait). ``write_config(run_id) -> path`` makes each one's file."""
        critic = self.config.critic
        for node in self.nodes:
            host = ray.remote(SidecarHost).options(num_cpus=0, scheduling_strategy=node.here())
            node.sidecar = host.remote(
                node.run_id,
                str(write_config(node.run_id)),
                str(self.logs / f"sidecar-{node.run_id}.log"),
                critic.sidecar.python,
                critic.sidecar.max_restarts,
            )
            if critic.sidecar.start:
                ray.get(node.sidecar.start.remote(), timeout=30)

    def rollout_worker(self, index: int, options: RolloutOptions) -> Any:
        """A rollout worker on the node that its number falls to, bound to that node's sidecar."""
        node = self.nodes[index % len(self.nodes)]
        pool = {**options.pool, "name": f"w{index}"}
        if pool.get("bridge") is not None:
            pool["bridge"] = dataclasses.replace(pool["bridge"], run_id=node.run_id)
        bound = dataclasses.replace(options, pool=pool)
        return ray.remote(RolloutWorker).options(
            num_cpus=1, num_gpus=self.config.rollout.gpus_per_worker, scheduling_strategy=node.here(),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(options.threads)}},
        ).remote(bound)  # fmt: skip

    def learners(self, options: LearnerOptions) -> list[Any]:
        """All ranks, made together (they meet in torch.distributed)."""
        world = self.config.actor.fsdp_config.world_size or max(1, int(self.gpus))
        per_rank = 0.0 if self.gpus == 0 else min(1.0, self.gpus / world) - self._rollout_share(world)
        if self.gpus and per_rank <= 0:
            raise RunFailedError(
                f"{self.gpus:.0f} GPU(s) are not enough for {world} learner(s) beside the rollout workers"
            )
        address = f"{ray.util.get_node_ip_address()}:{_free_port()}"
        make = ray.remote(Learner).options(num_cpus=1, num_gpus=per_rank)
        return [make.remote(options, rank, world, address) for rank in range(world)]

    def _rollout_share(self, world: int) -> float:
        return self.config.rollout.gpus_per_worker * self.config.rollout.workers * len(self.nodes) / world


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
