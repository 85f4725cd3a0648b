"""Who is placed where: reckoned from the configuration, and held by a Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import time
from itertools import pairwise

import pytest
import ray
from ray.cluster_utils import Cluster as RayCluster
from ray.util.placement_group import placement_group, remove_placement_group

from verl.errors import ConfigError
from verl.trainer import cluster as cluster_module
from verl.trainer import placement as placement_module
from verl.trainer.assemble import rollout_options
from verl.trainer.cluster import Cluster, start_ray
from verl.trainer.load_config import load_config
from verl.trainer.placement import make_plan

PATIENCE_S = 60.0
SMALL = {"num_cpus": 3, "object_store_memory": 80 * 2**20, "include_dashboard": False}
TWO = "trainer.n_gpus_per_node=2"
NOTICED_SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


def configured(*overrides: str):
    return load_config(["critic.enable=false", *overrides])[0]


def plan(gpus: list[float], *overrides: str):
    return make_plan(configured(*overrides), gpus)


@pytest.mark.parametrize(
    ("preset", "gpus"),
    [("laptop", [0.0]), ("h100_1", [1.0]), ("h100_8", [8.0]), ("h100_2x8", [8.0, 8.0]), ("h100_2x8", [0.0, 8.0, 8.0])],
)
def test_every_preset_fits_its_machine(preset, gpus):
    """What is placed in a bundle is no more than the bundle, and all of the GPUs are used."""
    overrides = [f"hardware={preset}", "env=libero"]
    made, config = plan(gpus, *overrides), configured(*overrides)
    assert len(made.bundles) == config.trainer.nnodes
    assert list(made.learners) == sorted(made.learners), "ranks of a node are next to each other"
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(made.learners))
    for place, bundle in enumerate(made.bundles):
        ranks = made.learners.count(place)
        assert bundle["CPU"] == 1 + made.workers + ranks
        used = ranks * made.learner_gpus + made.workers * config.rollout.gpus_per_worker
        assert used == pytest.approx(bundle.get("GPU", 0))


@pytest.mark.parametrize(
    ("gpus", "overrides", "words"),
    [
        ([0.0], ["trainer.nnodes=2"], "trainer.nnodes=2: the Ray cluster has 1"),
        ([0.0], ["actor_rollout_ref.rollout.gpus_per_worker=0.4"], "have no GPU"),
        ([1.0], ["actor_rollout_ref.rollout.gpus_per_worker=0.5", "actor_rollout_ref.rollout.workers=2"], "not enough"),
        (
            [8.0],
            ["actor_rollout_ref.actor.fsdp_config.world_size=16"],
            r"world_size=16: 8 GPU\(s\) are there, and NCCL",
        ),
        (
            [8.0],
            ["actor_rollout_ref.rollout.gpus_per_worker=0.6", "actor_rollout_ref.rollout.workers=8"],
            r"leaves each learner 0\.4 of a GPU",
        ),
        (
            [2.0],
            ["actor_rollout_ref.rollout.gpus_per_worker=0.8", "actor_rollout_ref.rollout.workers=1"],
            r"cannot hold 1 such shares beside 2 learner\(s\) with 0\.6",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_one_line(gpus, overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        plan(gpus, *overrides)
    assert "\n" not in str(caught.value)


def test_fewer_learners_than_gpus_leave_the_others_to_the_workers():
    """Three learners and eight workers on eight GPUs were refused, as if each learner had 8/3 of one."""
    shares = ["actor_rollout_ref.rollout.gpus_per_worker=0.4", "actor_rollout_ref.rollout.workers=8"]
    made = plan([8.0], *shares, "actor_rollout_ref.actor.fsdp_config.world_size=3")
    assert made.learner_gpus == 1.0 and made.learners == (0, 0, 0)
    assert made.guests(0) == 2, "five GPUs hold ten shares"


def test_unequal_nodes_have_learners_by_their_gpus():
    """Half of ten ranks went to a node with two GPUs, where they never came."""
    made = plan([2.0, 8.0], "trainer.nnodes=2")
    assert made.gpus == (8.0, 2.0) and made.learners == (0,) * 8 + (1,) * 2


@pytest.fixture
def nodes(monkeypatch):
    """A head and a second node, three CPUs each, and this process as the driver of a run on them."""
    made = RayCluster(initialize_head=True, head_node_args={**SMALL, "_system_config": NOTICED_SOON})
    second = made.add_node(**SMALL)
    start_ray(configured(f"trainer.ray_address={made.address}"))
    yield made, second
    ray.shutdown()
    made.shutdown()


class Standing:
    """A rollout worker that does nothing but be somewhere."""

    def __init__(self, options) -> None:
        self.options = options

    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()


def until(reached) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_lost_node_is_left_out_and_its_place_is_taken_by_the_next_that_comes(nodes, monkeypatch, tmp_path):
    """A bundle a node; the driver's node first; a guest where the place is empty, back home where it is not."""
    ray_cluster, second = nodes
    monkeypatch.setattr(cluster_module, "RolloutWorker", Standing)
    config, notes = configured("trainer.nnodes=2"), []
    options = rollout_options(config, "run")
    cluster = Cluster(config, "run", tmp_path, notes.append)
    try:
        own = ray.get_runtime_context().get_node_id()
        first, other = cluster.nodes
        assert first.node_id == own != other.node_id
        assert [node.run_id for node in cluster.nodes] == ["run-n0", "run-n1"]
        workers = [cluster.rollout_worker(index, options) for index in range(2)]
        assert ray.get([w.where.remote() for w in workers], timeout=PATIENCE_S) == [own, other.node_id]

        ray_cluster.remove_node(second, allow_graceful=False)
        until(lambda: len(cluster.look()) == 1)
        assert any("a node died" in note for note in notes)
        guest = cluster.rollout_worker(1, options)
        assert ray.get(guest.where.remote(), timeout=PATIENCE_S) == own
        assert not cluster.away(1), "there is nowhere to go back to"

        ray_cluster.add_node(**SMALL)
        until(lambda: len(cluster.look()) == 2)
        third = cluster.nodes[1]
        assert third.run_id == "run-n1" and third.node_id not in (own, other.node_id)
        assert cluster.away(1) and not cluster.away(0)
        back = cluster.rollout_worker(1, options)
        assert ray.get(back.where.remote(), timeout=PATIENCE_S) == third.node_id and not cluster.away(1)
    finally:
        cluster.placement.release()


class Seeing(Standing):
    """One that tells what it was asked for, and which card Ray gave it."""

    def visible(self) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def told(self) -> tuple[float, str | None, str | None]:
        return self.options.gpus, self.options.device, self.options.visible


def test_a_guest_asks_for_no_share_that_its_host_cannot_give(monkeypatch, tmp_path):
    """All of the host's card is given away: it waited for a share without end. It takes the card of a worker there."""
    made = RayCluster(initialize_head=True, head_node_args={**SMALL, "num_gpus": 1, "_system_config": NOTICED_SOON})
    second = made.add_node(**SMALL, num_gpus=1)
    monkeypatch.setattr(cluster_module, "RolloutWorker", Seeing)
    share = "actor_rollout_ref.rollout.gpus_per_worker=0.6"
    config, notes = configured(f"trainer.ray_address={made.address}", "trainer.nnodes=2", share), []
    start_ray(config)
    try:
        cluster, options = Cluster(config, "run", tmp_path, notes.append), rollout_options(config, "run")
        workers = [cluster.rollout_worker(index, options) for index in range(2)]
        given = (pytest.approx(0.6), None, None)
        assert ray.get([w.told.remote() for w in workers], timeout=PATIENCE_S) == [given, given]
        made.remove_node(second, allow_graceful=False)
        until(lambda: len(cluster.look()) == 1)
        guest = cluster.rollout_worker(1, options)
        card = ray.get(workers[0].visible.remote())
        assert ray.get(guest.told.remote(), timeout=PATIENCE_S) == (0.0, "cuda", card) and card == "0"
        assert any("rollout worker 1 shares a GPU" in note for note in notes)
        made.add_node(**SMALL, num_gpus=1)
        until(lambda: len(cluster.look()) == 2)
        assert ray.get(cluster.nodes[1].cards, timeout=PATIENCE_S) == ["0"]
        cluster.placement.release()
    finally:
        ray.shutdown()
        made.shutdown()


class Sidecar:
    """A sidecar's host that tells which cards its sidecar would see."""

    def __init__(self, *given) -> None:
        self.given = given[-1]

    def told(self) -> list[str] | None:
        return self.given


def test_a_sidecar_sees_the_cards_of_its_run_alone(monkeypatch, tmp_path):
    """It asks Ray for none: on a cluster's node that others share it took the first card, theirs perhaps. On a Ray of
    the run's own it sees what is there: a card that no actor takes may be the critic's."""
    made = RayCluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 8, "num_gpus": 4})
    monkeypatch.setattr(cluster_module, "SidecarHost", Sidecar)
    shared, alone = configured(f"trainer.ray_address={made.address}", TWO), configured(TWO)
    start_ray(shared)
    try:
        others = placement_group([{"GPU": 2}])
        assert others.wait(PATIENCE_S)
        for config, seen in ((shared, ["2", "3"]), (alone, None)):
            cluster = Cluster(config, "run", tmp_path, print)
            (node,) = cluster.nodes
            cluster.make_host(node)
            assert ray.get(node.sidecar.told.remote(), timeout=PATIENCE_S) == seen
            ray.kill(node.sidecar)
            cluster.placement.release()
    finally:
        ray.shutdown()
        made.shutdown()


def test_what_the_cluster_cannot_hold_is_said_at_once_with_what_there_is(nodes, monkeypatch, tmp_path):
    """Too much for any node; or only because somebody else is there. Nothing stays reserved."""
    monkeypatch.setattr(placement_module, "PLACED_S", 1.0)
    large = configured("trainer.nnodes=2", "actor_rollout_ref.rollout.workers=7")
    with pytest.raises(ConfigError, match=r"Asked: 9 CPU, 0 GPU \+ 8 CPU, 0 GPU.*There is: .*\(3 CPU, 0 GPU\)$"):
        Cluster(large, "run", tmp_path, print)
    others = placement_group([{"CPU": 2}])
    assert others.wait(PATIENCE_S)
    with pytest.raises(ConfigError, match="of which 4 CPU, 0 GPU are free"):
        Cluster(configured("trainer.nnodes=2"), "run", tmp_path, print)
    remove_placement_group(others)
    until(lambda: ray.available_resources().get("CPU") == 6)
