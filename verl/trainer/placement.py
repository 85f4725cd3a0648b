"""The room that a run takes on a Ray cluster: one placement group, a bundle a node, never two on one node.

    bundle i = the host of the node's sidecar + the node's rollout workers + the node's learners

All of it is there before anything is started, or the run ends with a line that says what is missing. When a node dies
Ray moves its bundle to another one that has room, as soon as there is one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from verl.config import Config
from verl.errors import ConfigError

PLACED_S = 20.0  # what others on the cluster hold may become free meanwhile
LOOK_S = 0.2
NODE_LABEL = "ray.io/node-id"


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is where. ``learners``: the node of each rank; ``gpus``: of each node; ``learner_gpus``: of one rank."""

    workers: int
    learners: tuple[int, ...]
    gpus: tuple[float, ...]
    learner_gpus: float

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What each node must have: a logical CPU an actor, and the GPUs."""
        ranks = Counter(self.learners)
        cpus = [1.0 + self.workers + ranks[place] for place in range(len(self.gpus))]
        return [{"CPU": c, "GPU": g} if g else {"CPU": c} for c, g in zip(cpus, self.gpus)]


def make_plan(config: Config, gpus_there: Sequence[float]) -> Plan:
    """Learners one a GPU, spread evenly; without GPUs all on the first node. ``gpus_there``: of every living node.

    Raises:
        ConfigError: there are too few nodes, or their GPUs cannot be shared out as asked.
    """
    nodes, asked, share = config.trainer.nnodes, config.trainer.n_gpus_per_node, config.rollout.gpus_per_worker
    if len(gpus_there) < nodes:
        raise ConfigError(f"trainer.nnodes={nodes}: the Ray cluster has {len(gpus_there)} node(s)")
    gpus = tuple(sorted(gpus_there, reverse=True)[:nodes]) if asked is None else (float(asked),) * nodes
    workers, total = config.rollout.workers, sum(gpus)
    world = config.actor.fsdp_config.world_size or max(1, int(total))
    if total == 0:
        if share > 0:
            raise ConfigError(f"actor_rollout_ref.rollout.gpus_per_worker={share:g}: the nodes taken have no GPU")
        return Plan(workers, (0,) * world, gpus, 0.0)
    per_rank = min(1.0, total / world) - share * workers * nodes / world
    if per_rank <= 0:
        raise ConfigError(
            f"{total:g} GPU(s) are not enough for {world} learner(s) beside {workers * nodes} rollout worker(s) with "
            f"actor_rollout_ref.rollout.gpus_per_worker={share:g}"
        )
    return Plan(workers, tuple(rank * nodes // world for rank in range(world)), gpus, per_rank)


class Placement:
    """The placement group of ``plan``, made and waited for. ``own``: the driver's node, taken first where it can.

    Raises:
        ConfigError: the cluster cannot hold it; says what is asked and what there is.
    """

    def __init__(self, plan: Plan, own: str) -> None:
        self.plan, bundles = plan, plan.bundles
        alive = [node for node in ray.nodes() if node["Alive"]]
        # the loss of the driver's node ends the run anyway, so its bundle never has to move
        driver: Mapping[str, float] = next((node["Resources"] for node in alive if node["NodeID"] == own), {})
        first = {NODE_LABEL: own} if holds(driver, bundles[0]) else {}
        selectors: list[dict[str, str]] = [first, *({} for _ in bundles[1:])]
        self.group: PlacementGroup = placement_group(
            bundles, strategy="STRICT_SPREAD", bundle_label_selector=selectors if first else None
        )
        deadline = time.monotonic() + PLACED_S
        while not self.group.wait(LOOK_S):
            state = placement_group_table(self.group)["stats"]["scheduling_state"]
            if state == "INFEASIBLE" or time.monotonic() > deadline:
                self.release()
                raise ConfigError(_shortage(bundles, alive, state == "INFEASIBLE"))

    def where(self) -> dict[int, str]:
        """The node of each bundle, without those that are to be moved."""
        places: Mapping[int, str] = placement_group_table(self.group)["bundles_to_node_id"]
        return {int(place): node for place, node in sorted(places.items()) if node}

    def at(self, place: int) -> PlacementGroupSchedulingStrategy:
        """In bundle ``place``."""
        return PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=place)

    def release(self) -> None:
        """Gives the room back; Ray ends what still runs in it. Safe to call twice."""
        remove_placement_group(self.group)


def holds(there: Mapping[str, float], bundle: Mapping[str, float]) -> bool:
    """Whether a node with these resources, all of them free, can hold ``bundle``."""
    return all(there.get(name, 0) >= amount for name, amount in bundle.items())


def _shortage(bundles: Sequence[Mapping[str, float]], alive: Sequence[Mapping[str, Any]], never: bool) -> str:
    has = [f"{node['NodeManagerAddress']} ({_named(node['Resources'])})" for node in alive]
    free = (
        "" if never else f", of which {_named(ray.available_resources())} are free in all: somebody else has the rest"
    )
    asked = " + ".join(_named(bundle) for bundle in bundles)
    return (
        f"trainer.nnodes={len(bundles)}: the Ray cluster cannot hold this run. Asked: {asked}, each on a node of its "
        f"own (a CPU for the sidecar, each rollout worker and each learner). There is: {', '.join(has)}{free}"
    )


def _named(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
