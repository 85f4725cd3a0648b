"""Two critics on one node of CPUs, one killed for good in mid-rollout: the learner gets what it gets undisturbed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pytest

from shm_bridge import Controller
from shm_bridge.inspect import clean_run
from tests.support.launching import ROOT
from tests.verl.critic import critic_config
from tests.verl.envs.test_pool import drive
from verl.algorithms.batch import build_samples, usable_groups
from verl.config import AlgorithmConfig, KlConfig
from verl.envs.messages import Observation
from verl.envs.pool import EnvPool
from verl.episode import Decisions, Episode, EpisodeEnd, EpisodeRequest
from verl.samples import Samples

CHUNK, ACTION_DIM, GROUPS, SIZE = 8, 7, 3, 2
ENVIRONMENTS, KILLED_AFTER = 3, 6  # observations
KEYS = (
    "engine=direct",
    f"model={ROOT / 'models' / 'vlac-tiny'}",
    "devices=cpu,cpu",
    "batch.max_size=1",  # so that not even a last bit depends on who shared a pass
    "health.backoff_s=3600",  # one that is killed stays dead
    "health.backoff_max_s=3600",
    "log.level=warning",
)


@contextmanager
def sidecar(run_id: str) -> Iterator[Controller]:
    command = [sys.executable, "-m", "sidecar", f"run_id={run_id}", *KEYS]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            with Controller.connect(run_id, 60) as controller:
                controller.wait_ready(120)
                yield controller
        finally:
            process.terminate()
            process.wait(20)
            clean_run(run_id)


class Policy:
    """What it saw, and tokens that follow from it. ``disturb`` is called once, in the middle of the rollout."""

    def __init__(self, disturb: Callable[[], Any]) -> None:
        self.disturb = disturb
        self.seen: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.observations = 0

    def __call__(self, observation: Observation) -> None:
        self.observations += 1
        if self.observations == KILLED_AFTER:
            self.disturb()
        frames = np.stack([np.array(observation.frames["agentview"])])
        self.seen.setdefault(observation.episode, []).append((frames, np.array(observation.proprio)))

    def decisions(self, end: EpisodeEnd) -> Decisions:
        images = np.stack([frames for frames, _ in self.seen[end.request.episode][: end.chunks]])
        digests = [hashlib.blake2b(one.tobytes(), digest_size=CHUNK * ACTION_DIM).digest() for one in images]
        tokens = np.array([list(digest) for digest in digests], np.int64)
        proprio = np.stack([proprio for _, proprio in self.seen[end.request.episode][: end.chunks]])
        return Decisions(images, proprio, tokens, -tokens.astype(np.float32) / 256)


def learners_input(run_id: str, disturb: Callable[[], Any]) -> tuple[Samples, list[EpisodeEnd]]:
    """Of a rollout of some groups, by real environment processes that ask the critic after every step."""
    policy, ends = Policy(disturb), []
    env = {"name": "tests.project.seeded_env:SeededEnv", "max_steps": 16}
    with EnvPool(env, critic_config(run_id, verdict_timeout_s=60.0, hold=5), ENVIRONMENTS) as pool:
        for episode in range(GROUPS * SIZE):
            pool.submit(EpisodeRequest(episode, episode // SIZE, 0, episode, training=True))
        for end in drive(pool, GROUPS * SIZE, policy):
            assert isinstance(end, EpisodeEnd), end
            ends.append(end)
    ends.sort(key=lambda end: end.request.episode)
    groups = usable_groups((Episode(end, policy.decisions(end)) for end in ends), SIZE)
    algorithm = AlgorithmConfig("grpo", 1.0, 0.95, False, "token-mean", KlConfig(0.0))
    return build_samples([one for group in groups for one in group], algorithm, CHUNK, ACTION_DIM), ends


@pytest.mark.timeout(400)
def test_a_critic_killed_for_good_changes_no_byte_of_the_learners_input() -> None:
    """Its neighbour answers, what was in work included: equal digests, no outage, and no restart."""
    run_id = "test-critic-lost"
    with sidecar(run_id) as controller:
        service = psutil.Process(controller.status()["pid"])
        undisturbed, quiet = learners_input(run_id, lambda: None)
        killed = next(one for one in service.children() if one.cmdline()[-1] == "0")
        disturbed, ends = learners_input(run_id, killed.kill)
        replicas = [one for one in service.children() if "replica_main" in " ".join(one.cmdline())]
        assert controller.status()["epoch"] == 1, "the service has gone on"
    assert len(replicas) == 1
    assert len({end.score for end in quiet}) > 1, "the scores say something"
    assert all(end.outages == 0 for end in ends), "no question failed"
    assert disturbed.digest() == undisturbed.digest()
