"""The room that a run takes on a Ray cluster: one placement group, a bundle a node, never two on one node.

    bundle i = the host of the node's sidecar + the node's rollout workers + the node's learners

All of it is there before anything is started, or the run ends with a line that says what is missing. When a node dies
Ray moves its bundle to another one that has room, as soon as there is one.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from verl.config import Config
from verl.errors import ConfigError

PLACED_S = 20.0  # what others on the cluster hold may become free meanwhile
LOOK_S = 0.2
NODE_LABEL = "ray.io/node-id"
WORKERS_KEY = "actor_rollout_ref.rollout.gpus_per_worker"
RANKS_KEY = "actor_rollout_ref.actor.fsdp_config.world_size"
HALF = 0.5  # of a GPU: of what asks for more, no two are put onto one
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is where. ``learners``: the node of each rank; ``gpus``: of each node; ``learner_gpus``: of one rank;
    ``worker_gpus``: of one rollout worker."""

    workers: int
    learners: tuple[int, ...]
    gpus: tuple[float, ...]
    learner_gpus: float
    worker_gpus: float

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What each node must have: a logical CPU an actor, and the GPUs."""
        ranks = Counter(self.learners)
        cpus = [1.0 + self.workers + ranks[place] for place in range(len(self.gpus))]
        return [{"CPU": c, "GPU": g} if g else {"CPU": c} for c, g in zip(cpus, self.gpus)]

    def guests(self, place: int) -> int:
        """How many rollout workers more than its own the GPUs of a node can hold; under 0 where not even those.

        An actor's share is of one GPU, so what two of them have left does not add up.
        """
        share, ranks, cards = self.worker_gpus, self.learners.count(place), int(self.gpus[place])
        beside = [1 - self.learner_gpus] * min(ranks, cards) + [1.0] * (cards - ranks)
        room = sum(int(left / share + ROUNDING) for left in beside) if share <= 1 else int(sum(beside) / share)
        return room - self.workers


def make_plan(config: Config, gpus_there: Sequence[float]) -> Plan:
    """Learners one a GPU, spread evenly; without GPUs all on the first node. ``gpus_there``: of every living node.

    Raises:
        ConfigError: there are too few nodes, or their GPUs cannot be shared out as asked: some actor would never come.
    """
    nodes, asked, share = config.trainer.nnodes, config.trainer.n_gpus_per_node, config.rollout.gpus_per_worker
    if len(gpus_there) < nodes:
        raise ConfigError(f"trainer.nnodes={nodes}: the Ray cluster has {len(gpus_there)} node(s)")
    gpus = tuple(sorted(gpus_there, reverse=True)[:nodes]) if asked is None else (float(asked),) * nodes
    workers, total = config.rollout.workers, sum(gpus)
    world = config.actor.fsdp_config.world_size or max(1, int(total))
    if total == 0:
        if share > 0:
            raise ConfigError(f"{WORKERS_KEY}={share:g}: the nodes taken have no GPU")
        return Plan(workers, (0,) * world, gpus, 0.0, 0.0)
    if world > total:
        raise ConfigError(f"{RANKS_KEY}={world}: {total:g} GPU(s) are there, and NCCL takes no two learners on one")
    per_rank = min(1.0, (total - share * workers * nodes) / world)
    if per_rank <= 0:
        raise ConfigError(
            f"{total:g} GPU(s) are not enough for {world} learner(s) beside {workers * nodes} rollout worker(s) with "
            f"{WORKERS_KEY}={share:g}"
        )
    ends = list(accumulate(gpus))  # ranks in proportion to the nodes' GPUs, from the middle of each rank's part
    learners = tuple(bisect_left(ends, (rank + 0.5) * total / world) for rank in range(world))
    plan = Plan(workers, learners, gpus, per_rank, share)
    _check_cards(plan)
    return plan


def _check_cards(plan: Plan) -> None:
    """Raises ConfigError where Ray would put two learners onto one GPU, or has no GPU left for a worker's share."""
    share = plan.worker_gpus
    for ranks in Counter(plan.learners).values():
        if ranks > 1 and plan.learner_gpus <= HALF:
            raise ConfigError(
                f"{WORKERS_KEY}={share:g}: leaves each learner {plan.learner_gpus:.2g} of a GPU, so that Ray may put "
                f"two of them onto one, and NCCL takes no two there; it must leave more than {HALF:g}"
            )
    for place, gpus in enumerate(plan.gpus):
        if share and plan.guests(place) < 0:
            raise ConfigError(
                f"{WORKERS_KEY}={share:g}: a node's {gpus:g} GPU(s) cannot hold {plan.workers} such shares beside "
                f"{plan.learners.count(place)} learner(s) with {plan.learner_gpus:.2g} each: a share is of one GPU"
            )


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

    def cards(self, place: int) -> Any:
        """A call that tells which GPUs of its node are in bundle ``place``. It takes them all for a moment, so it ends
        only where no actor holds one."""
        look = ray.remote(_cards).options(
            num_cpus=0, num_gpus=self.plan.gpus[place], scheduling_strategy=self.at(place)
        )
        return look.remote()

    def release(self) -> None:
        """Gives the room back; Ray ends what still runs in it. Safe to call twice."""
        remove_placement_group(self.group)


def _cards() -> list[str]:
    """The GPUs that Ray gave to this process, as CUDA_VISIBLE_DEVICES names them."""
    return sorted(ray.get_runtime_context().get_accelerator_ids()["GPU"], key=lambda name: (len(name), name))


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
