"""On Ray, as a run places its actors: a collective of all learners, and a bucket of weights to a rollout worker.

Member of rank 0 .. n (torch.distributed)  --one bucket, as in a run-->  Taker, on each node with a share of a card
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from torch import nn

from verl.config import Config
from verl.errors import WeightsError
from verl.preflight.line import Line, good
from verl.trainer import ray_wait
from verl.trainer.cluster import _free_port
from verl.trainer.heartbeat import reporting
from verl.trainer.placement import Placement, make_plan
from verl.trainer.ray_session import ray_session
from verl.trainer.ray_store import LARGEST_BUCKET
from verl.workers.device import given_device
from verl.workers.sharded_policy import backends
from verl.workers.weight_receiver import WeightReceiver, card
from verl.workers.weight_transfer import Receiver, WeightSender
from verl.workers.work import Report, Work

START_S = 300.0
TOOK_S = 120.0
ROWS, WIDTH = 2048, 4096


def _weights(device: torch.device, dtype: torch.dtype, value: float) -> nn.Module:
    """One layer that fits one bucket."""
    layer = nn.Linear(WIDTH, ROWS, bias=False, device=device, dtype=dtype)
    nn.init.constant_(layer.weight, value)
    return layer


class Member:
    """A learner without a policy: joins the others, sends a bucket."""

    def __init__(self, config: Config, rank: int, world: int, address: str, gpus: float) -> None:
        self.world, self.device, self.work = world, given_device(gpus), Work()
        dist.init_process_group(
            backends(self.device, config.actor.fsdp_config),
            init_method=f"tcp://{address}",
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=TOOK_S),
        )
        dtype = getattr(torch, config.rollout.dtype)
        self.sender = WeightSender(_weights(self.device, dtype, 1.0), dtype, self.device, rank, self.work)

    def card(self) -> str | None:
        return card(self.device)

    def sum(self) -> float:
        """Seconds of the second of two sums over all ranks; the first also opens the connections."""
        took = 0.0
        for _ in range(2):
            ones = torch.ones(ROWS * WIDTH, device=self.device)
            began = time.perf_counter()
            dist.all_reduce(ones)
            right = bool((ones == self.world).all())
            took = time.perf_counter() - began
            if not right:
                raise WeightsError(f"a sum over {self.world} learners is wrong: {ones[0]} and others")
        return took

    def send(self, receivers: list[Receiver]) -> dict[int, str]:
        return self.sender.send(1, receivers, LARGEST_BUCKET)

    def report(self) -> Report:
        return self.work.report()


class Taker:
    """A rollout worker without policy and environments."""

    def __init__(self, config: Config) -> None:
        dtype = getattr(torch, config.rollout.dtype)
        self.device, self.work = given_device(config.rollout.gpus_per_worker, config.rollout.device), Work()
        self.policy = _weights(self.device, dtype, 0.0)
        self.weights = WeightReceiver(self.policy, dtype, self.device)

    def card(self) -> str | None:
        return card(self.device)

    def take_weights(self, number: int, pieces: list[Any], payload: Any) -> None:
        self.weights.take(number, pieces, payload)

    def whole(self) -> bool:
        """Whether all that was sent has come."""
        self.weights.check_whole()
        return all(bool((tensor == 1).all()) for tensor in self.policy.state_dict().values())

    def report(self) -> Report:
        return self.work.report()


def run(config: Config) -> Iterator[Line]:
    """Raises what goes wrong; a line for each that goes well."""
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder, ray_session(config, [], Path(folder)):
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        plan = make_plan(config, [node["Resources"].get("GPU", 0) for node in alive.values()])
        placement = Placement(plan, ray.get_runtime_context().get_node_id())
        try:
            nodes = [alive[node] for node in placement.where().values()]
            yield good("Ray", f"{len(nodes)} node(s), {len(plan.learners)} learner(s) have room")
            yield from _together(config, placement, nodes)
        finally:
            placement.release()


def _together(config: Config, placement: Placement, nodes: Sequence[Any]) -> Iterator[Line]:
    plan, at = placement.plan, placement.at
    port_of = ray.remote(_free_port).options(num_cpus=0, scheduling_strategy=at(plan.learners[0]))
    (port,) = ray_wait.get([port_of.remote()], START_S, "a port for the learners")
    address, world = f"{nodes[plan.learners[0]]['NodeManagerAddress']}:{port}", len(plan.learners)
    members = [
        reporting(Member)
        .options(num_cpus=1, num_gpus=plan.learner_gpus, scheduling_strategy=at(place))
        .remote(config, rank, world, address, plan.learner_gpus)
        for rank, place in enumerate(plan.learners)
    ]
    takers = [
        reporting(Taker)
        .options(num_cpus=1, num_gpus=config.rollout.gpus_per_worker, scheduling_strategy=at(place))
        .remote(config)
        for place in range(len(nodes))
    ]
    cards = ray_wait.get([one.card.remote() for one in (*members, *takers)], START_S, "the start of the actors")
    took = max(ray_wait.get([member.sum.remote() for member in members], TOOK_S, "a sum over all learners"))
    size = ROWS * WIDTH * 4 / 2**20
    yield good("collective", f"{size:.0f} MiB summed over {world} learner(s) in {took * 1000:.0f} ms")
    ranks = {name: rank for rank, name in enumerate(cards[:world]) if name is not None}
    receivers = [Receiver(i, taker, ranks.get(cards[world + i] or "")) for i, taker in enumerate(takers)]
    began = time.perf_counter()
    lost = ray_wait.get([member.send.remote(receivers) for member in members], TOOK_S, "a bucket of weights")
    took = time.perf_counter() - began
    if why := "; ".join(text for one in lost for text in one.values()):
        raise WeightsError(f"a bucket of weights did not arrive: {why}")
    if not all(ray_wait.get([taker.whole.remote() for taker in takers], TOOK_S, "the workers")):
        raise WeightsError("a bucket of weights arrived with other numbers than were sent")
    way = "on their card" if any(one.rank is not None for one in receivers) else "through Ray's store"
    yield good("weights", f"a bucket to {len(takers)} worker(s) {way} in {took * 1000:.0f} ms")
