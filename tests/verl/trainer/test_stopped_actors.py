"""Real Ray actors, stopped by SIGSTOP: seen from outside while their calls run, replaced where they can be."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
import ray
from ray.exceptions import RayActorError

from verl.episode import EpisodeRequest
from verl.errors import NoAnswerError
from verl.trainer import heartbeat, ray_wait
from verl.trainer.heartbeat import LearnerWatch, reporting
from verl.trainer.ppo import fleet_worker
from verl.trainer.ppo.fleet import Fleet
from verl.workers.advance import Advance
from verl.workers.work import Report, Work, at_work

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
SILENT_S = 6.0  # on a machine with much else to do an answer may take a while


class Actor:
    """Works like a learner or a rollout worker, without a policy. ``step_s``: one step of its calls."""

    def __init__(self, step_s: float) -> None:
        self.step_s, self.work = step_s, Work()

    def report(self) -> Report:
        return self.work.report()

    @at_work
    def update(self, steps: int) -> int:
        for _ in range(steps):
            time.sleep(self.step_s)
            self.work.step()
        return os.getpid()

    def card(self) -> None:
        return

    def take_weights(self, number: int) -> int:
        return number

    def advance(self, requests: list[EpisodeRequest], seconds: float) -> Advance:
        return Advance(episodes=[_Ended(r) for r in requests])

    def close(self) -> None:
        return


class _Ended:
    def __init__(self, request: EpisodeRequest) -> None:
        self.request = request


class FakeLearners:
    """Sends a number; waits like learners for who takes it. ``sent``: to whom."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []

    def hand_over(self, workers: list) -> list:
        self.sent.append([index for index, *_ in workers])
        return [actor.take_weights.remote(7) for _, actor, _ in workers]

    def handed_over(self, calls: list, also=lambda reports: None) -> dict[int, str]:
        lost = {}
        for index, call in zip(self.sent[-1], calls):
            try:
                ray_wait.get([call], 60, "taking", lambda: also([None]))
            except RayActorError:
                lost[index] = "died"
        return lost


@pytest.fixture(scope="module")
def own_ray():
    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    yield
    everything = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert not alive


@pytest.fixture(autouse=True)
def impatient(monkeypatch, own_ray):
    for module in (heartbeat, fleet_worker):
        monkeypatch.setattr(module, "SILENT_S", SILENT_S)
    monkeypatch.setattr(heartbeat, "NAMED_S", SILENT_S / 2)
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.2)


def make(step_s: float):
    return reporting(Actor).options(num_cpus=1).remote(step_s)


def test_a_call_is_seen_from_inside_and_a_stopped_one_is_named(own_ray):
    """The steps of one long call arrive while it runs; stopped, its process and step are told, the wait ends."""
    actors, said = [make(0.1), make(0.1)], []
    watch = LearnerWatch(actors, said.append, 600.0)
    watch.start(120)
    pids = watch.wait([actor.update.remote(30) for actor in actors], "the update")
    assert [report.pid for report in watch.known] == pids
    assert any(report.call == "update" and report.steps > 1 for report in watch.known) and not said
    os.kill(pids[1], signal.SIGSTOP)
    with pytest.raises(NoAnswerError, match=rf"the update: learner 1 \(process {pids[1]} on "):
        watch.wait([actor.update.remote(10**6) for actor in actors], "the update")
    assert len(said) == 1
    for actor in actors:
        ray.kill(actor)


def play(fleet: Fleet) -> list[int]:
    """Six episodes; the numbers of those that ended."""
    requests = [EpisodeRequest(i, i // 2, 0, 0, True) for i in range(6)]
    return sorted(episode.request.episode for episode in fleet.run(requests, [], [], lambda group: []))


@pytest.mark.parametrize("when", ["loading weights", "playing"])
def test_a_stopped_rollout_worker_is_replaced_and_its_process_ended(own_ray, when):
    """Every episode is there once; the new worker has the weights; the stopped process does not stay."""
    fleet = Fleet(lambda index: make(0.0), 2, 2, 60.0, 1.0, lambda: None)
    fleet.start()
    learners = FakeLearners()
    fleet.load_weights(learners)
    deadline = time.monotonic() + 60
    while any(worker.heartbeat.last is None for worker in fleet.workers):  # whose calls all end in time
        assert time.monotonic() < deadline
        play(fleet)
    stopped = psutil.Process(fleet.workers[0].heartbeat.last.pid)
    stopped.suspend()
    if when == "loading weights":
        fleet.load_weights(learners)
    assert play(fleet) == list(range(6)) and fleet.statistics.workers_replaced == 1
    while not all(worker.settled for worker in fleet.workers):  # the new one may still start
        play(fleet)
    assert learners.sent == [[0, 1], *[[0, 1]] * (when == "loading weights"), [0]]
    fleet.close()
    gone, _ = psutil.wait_procs([stopped], timeout=30)
    assert gone, "Ray ends it by SIGKILL some seconds later"
