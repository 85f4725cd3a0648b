"""Weights from two learners to rollout workers, all real Ray actors: one dies, and none plays with old weights.

With a stand-in for Ray, and each part alone: ``tests/verl/workers/test_weight_transfer.py``.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import ray
import torch

from tests.verl.workers.test_learner import TINY, free_port, options, samples
from verl.episode import EpisodeRequest
from verl.models.openvla_oft.tiny import make_policy, unit_stats
from verl.trainer.heartbeat import LearnerWatch, reporting
from verl.trainer.load_limits import LoadLimit
from verl.trainer.ppo.fleet import Fleet
from verl.trainer.ppo.learners import Learners
from verl.trainer.ray_store import bucket_bytes, store_metrics
from verl.workers.learner import Learner
from verl.workers.rollout import RolloutOptions, RolloutWorker

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]
STORE = 80 * 2**20


@pytest.fixture(scope="module")
def own_ray():
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd()), "OMP_NUM_THREADS": "1"}
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=STORE,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield
    everything = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert not alive


class Watched(RolloutWorker):
    """Tells its weights; dies at the third bucket when ``trap`` is there, which it takes along."""

    def __init__(self, given: RolloutOptions, trap: Path) -> None:
        super().__init__(given)
        self.trap, self.buckets = trap, 0

    def take_weights(self, number, pieces, payload) -> None:
        self.buckets += 1
        if self.buckets >= 3 and self.trap.exists():
            self.trap.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        super().take_weights(number, pieces, payload)

    def told(self) -> tuple[int, dict[str, torch.Tensor]]:
        return os.getpid(), self.policy.state_dict()


def play(fleet: Fleet, count: int = 4) -> None:
    requests = [EpisodeRequest(i, i // 2, 0, i, True) for i in range(count)]
    assert len(list(fleet.run(requests, [], [], lambda group: []))) == count


def test_whoever_dies_plays_again_with_the_learners_weights(own_ray, tmp_path: Path) -> None:
    """In the middle of taking them, and while it plays; the store keeps nothing, nothing is spilled."""
    path, trap = tmp_path / "policy", tmp_path / "trap"
    make_policy(path, TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    pool = {"env_config": {"name": "tests.verl.envs.dot_env:DotEnv"}, "critic": None, "size": 1}
    given = RolloutOptions(str(path), "tiny", False, 1.0, True, False, 4, None, "cpu", "float32", 1, 0, False, pool)
    address = f"127.0.0.1:{free_port()}"
    actors = [reporting(Learner).options(num_cpus=1).remote(options(str(path)), r, 2, address) for r in range(2)]
    watch = LearnerWatch(actors, print, 600.0)
    learners = Learners(actors, watch, "test")
    make = reporting(Watched).options(num_cpus=1)
    fleet = Fleet(
        lambda index: make.remote(given, trap), 2, 1, 120.0, 1.0, lambda: None, start_limit=LoadLimit.of(path)
    )
    watch.start(200)
    fleet.start()
    play(fleet)

    learners.update(samples(str(path)), 0)
    assert learners._places() == {} and learners._bucket_bytes == bucket_bytes(4) == 2.5 * 2**20
    learners._bucket_bytes = 16 * 1024  # many buckets
    trap.touch()
    shares: list[float] = []
    fleet.load_weights(learners, shares.append)
    assert not trap.exists() and fleet.statistics.workers_replaced == 1
    play(fleet, 8)
    pids = check(fleet, actors)

    os.kill(pids[0], signal.SIGKILL)
    play(fleet, 8)
    assert fleet.statistics.workers_replaced == 2
    assert check(fleet, actors)[0] != pids[0]

    learners.update(samples(str(path)), 1)
    fleet.load_weights(learners)
    check(fleet, actors)
    stored = store_metrics()
    assert stored["ray/spilled_mb"] == 0 == stored["ray/overflow_mb"]
    fleet.close()


def check(fleet: Fleet, actors: list) -> list[int]:
    """Every worker has what the learners have, once it has started; the workers' processes."""
    deadline = time.monotonic() + 120
    while not all(worker.settled for worker in fleet.workers):
        assert time.monotonic() < deadline
        play(fleet, 1)
    expected = ray.get([actor.weights.remote() for actor in actors])[0]
    told = ray.get([worker.actor.told.remote() for worker in fleet.workers], timeout=60)
    for _, weights in told:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    return [pid for pid, _ in told]
