"""The learners of a run as one, on a small Ray: what an update hands over, and what a lost rank looks like."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import ray

from tests.support.own_ray import own_ray
from verl.errors import RunFailedError
from verl.samples import Samples
from verl.trainer.heartbeat import LearnerWatch, reporting
from verl.trainer.ppo.learners import Learners
from verl.trainer.ray_store import store_metrics
from verl.workers.batch_split import mini_batches, wanted
from verl.workers.work import Report, Work

pytestmark = pytest.mark.timeout(300)
COUNT, SIDE = 1200, 256  # 236 MB of pictures; the store has 80 MiB


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with own_ray():
        yield


class Rank:
    """Does with samples what a learner does, but for learning. ``fate``: of a call of ``update``."""

    def __init__(self, rank: int, fate: str = "") -> None:
        self.rank, self.fate, self.work = rank, fate, Work()
        self.seen: dict[int, int] = {}

    def card(self) -> None: ...

    def report(self) -> Report:
        return self.work.report()

    def wants(self, outline: Samples, step: int) -> np.ndarray:
        batches = mini_batches(outline.trajectory, 4, np.random.default_rng(step))
        self.positions = wanted(batches, self.rank, 2)
        return self.positions

    def take_pictures(self, first: int, pictures: np.ndarray) -> None:
        self.seen |= zip(self.positions[first : first + len(pictures)].tolist(), pictures.sum((1, 2, 3, 4)).tolist())

    def update(self, samples: Samples, step: int) -> dict[str, float]:
        if self.fate == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fate:
            raise RuntimeError(self.fate)
        return {"steps": 1.0}

    def told(self) -> dict[int, int]:
        return self.seen


def learners(*fates: str) -> Learners:
    actors = [reporting(Rank).options(num_cpus=0).remote(rank, fate) for rank, fate in enumerate(fates)]
    watch = LearnerWatch(actors, print, 600.0)
    watch.start(120)
    return Learners(actors, watch, "a-run")


def samples(count: int, side: int) -> Samples:
    rng = np.random.default_rng(0)
    row, token = np.zeros((count, 8), np.float32), np.zeros((count, 56), np.float32)
    numbers = np.zeros(count, np.float32)
    images = rng.integers(0, 255, (count, 1, side, side, 3), np.uint8)
    texts = ["lift the red cube"] * count
    return Samples(
        images, row, texts, token.astype(np.int64), token, token, token, numbers, numbers, np.arange(count) // 10
    )


def test_pictures_larger_than_the_store_reach_the_rank_that_needs_them_and_none_is_spilled() -> None:
    """Each rank its own and no other's, intact; the store never overflows into files."""
    batch, made = samples(COUNT, SIDE), learners("", "")
    before = store_metrics()
    assert made.update(batch, 3) == {"steps": 1.0}
    after = store_metrics()
    assert after["ray/spilled_mb"] == before["ray/spilled_mb"] and after["ray/overflow_mb"] == 0
    first, second = ray.get([actor.told.remote() for actor in made.actors])
    assert not first.keys() & second.keys() and sorted([*first, *second]) == list(range(COUNT))
    sums = np.asarray(batch.images).sum((1, 2, 3, 4))
    assert all(total == sums[position] for position, total in {**first, **second}.items())


def test_a_rank_that_dies_is_told_though_another_notices_first() -> None:
    """Its peers' collective breaks at once, and Ray hears of a lost node much later: the line says which rank is gone
    and how to go on."""
    broken = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3122"
    with pytest.raises(RunFailedError, match=r"a learner died in the learners' update .*resume_mode=auto") as caught:
        learners(broken, "dies").update(samples(20, 8), 1)
    assert "rank 1" in str(caught.value)


def test_an_error_of_a_rank_s_own_is_told_as_it_is() -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="a bug of ours"):
        learners("a bug of ours", "").update(samples(20, 8), 1)
