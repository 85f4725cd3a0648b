"""Two Ray nodes on one machine, a sidecar each; one is killed with all that is on it, and the run ends as it should."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.support.launching import QUICK, SCRIPTED, Launched

pytestmark = pytest.mark.timeout(600)

EPISODES = 24
START_S = 240  # on a machine with much else to do
RUN = [
    *QUICK,
    *SCRIPTED,
    "env.name=tests.verl.envs.dot_env:DotEnv",
    "env.max_steps=24",
    "+env.step_s=0.05",
    "trainer.videos=0",
    f"trainer.total_episodes={EPISODES}",
    "data.n_samples=4",
    "data.train_batch_size=6",
    "trainer.logger=[console]",
    "trainer.nnodes=2",
    "trainer.val_before_train=false",
    "critic.audit_min_precision=0",
]
STORE = 80 * 2**20
NOTICED_SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def mark(monkeypatch):
    """In the environment of everything the test starts, the cluster's processes too."""
    made = f"test-{secrets.token_hex(6)}"
    monkeypatch.setenv("VLAC_TEST_MARK", made)
    return made


@pytest.fixture
def cluster(mark):
    """Two nodes with room for all workers on either."""
    node = {"num_cpus": 8, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**node, "_system_config": NOTICED_SOON})
    made.add_node(**node)
    yield made
    made.shutdown()


def node_of(launched: Launched, words: str) -> psutil.Process:
    """The raylet under which a process with ``words`` in its command runs."""
    for process in launched.processes():
        if words in " ".join(process.cmdline()):
            return next(p for p in process.parents() if p.name() == "raylet")
    raise AssertionError(f"no process {words}: {[p.cmdline() for p in launched.processes()]}")


def kill_node(raylet: psutil.Process) -> None:
    """The raylet and everything on its node, at once."""
    everything = [raylet, *raylet.children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in everything:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue


def wait_for_episodes(launched: Launched, count: int) -> None:
    path, deadline = launched.run / "episodes.jsonl", time.monotonic() + START_S
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert launched.process.poll() is None and time.monotonic() < deadline, launched.text()
        time.sleep(0.05)


def test_a_node_is_killed_in_mid_rollout(tmp_path, cluster, mark):
    """Its workers go on where the other node is; every episode is there once; nothing is left."""
    launched = Launched(tmp_path, [*RUN, f"trainer.ray_address={cluster.address}"], mark=mark)
    wait_for_episodes(launched, 4)
    first, second = (node_of(launched, f"sidecar-{mark}-n{i}.yaml") for i in range(2))
    assert first.pid != second.pid
    servers = {lane.rsplit(":lane", 1)[0] for lane in os.listdir("/dev/shm") if mark in lane and ":lane" in lane}
    assert {name.removeprefix("sem.") for name in servers} == {f"vlac:{mark}-n{i}" for i in range(2)}
    kill_node(second)

    assert launched.wait(START_S) == 0, launched.text()
    assert "a node died" in launched.text()
    summary = json.loads((launched.run / "summary.json").read_text())
    assert summary["episodes"] == EPISODES and summary["updates"] == 1 and summary["episodes_lost"] > 0
    lines = [json.loads(line) for line in (launched.run / "episodes.jsonl").read_text().splitlines()]
    assert sorted(line["episode"] for line in lines if line["training"]) == list(range(EPISODES))
    ours = ("verl.envs.env_main", "-m sidecar", "sidecar.service_main", "verl.trainer")
    assert not [p for p in launched.processes() if any(words in " ".join(p.cmdline()) for words in ours)]
    assert [name for name in os.listdir("/dev/shm") if mark in name] == []
