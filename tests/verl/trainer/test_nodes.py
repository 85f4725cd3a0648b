"""Two Ray nodes on one machine, a sidecar each; one is killed with all that is on it, and the run ends as it should.

The second may be one that was started with an empty environment, as by a batch system or a service.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
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


def servers_with_lanes(mark: str) -> set[str]:
    """Names of the sidecars that a worker has a lane of."""
    lanes = {file.removeprefix("sem.") for file in os.listdir("/dev/shm") if mark in file and ":lane" in file}
    return {lane.rsplit(":lane", 1)[0] for lane in lanes}


def wait_for_episodes(launched: Launched, count: int) -> None:
    path, deadline = launched.run / "episodes.jsonl", time.monotonic() + START_S
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert launched.process.poll() is None and time.monotonic() < deadline, launched.text()
        time.sleep(0.05)


def test_a_node_is_killed_in_mid_rollout(tmp_path, cluster, mark):
    """Its workers go on where the other node is; every episode is there once; nothing is left."""
    slow = "env.step_s=0.15"  # a node whose worker comes seconds later has episodes too
    launched = Launched(tmp_path, [*RUN, slow, f"trainer.ray_address={cluster.address}"], mark=mark)
    both = {f"vlac:{mark}-n{i}" for i in range(2)}
    launched.until(lambda: servers_with_lanes(mark) == both, START_S, "lanes on both nodes")
    wait_for_episodes(launched, 4)
    first, second = (node_of(launched, f"sidecar-{mark}-n{i}.yaml") for i in range(2))
    assert first.pid != second.pid
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


def wait_for_line(launched: Launched, words: str) -> None:
    """In the driver's log."""
    log = launched.run / "logs" / "driver.log"
    launched.until(lambda: log.exists() and words in log.read_text(errors="replace"), START_S, words)


def test_a_node_is_killed_in_mid_update(tmp_path, cluster, mark):
    """It had no learner: the update is finished, the weights go to who is left, and the run says so and ends well."""
    long = ["actor_rollout_ref.actor.ppo_epochs=60", "actor_rollout_ref.actor.ppo_mini_batch_size=4"]
    launched = Launched(tmp_path, [*RUN, *long, f"trainer.ray_address={cluster.address}"], mark=mark)
    wait_for_line(launched, "update 1:")
    kill_node(node_of(launched, f"sidecar-{mark}-n1.yaml"))

    assert launched.wait(START_S) == 0, launched.text()
    assert launched.text().count("a node died") == 1
    summary = json.loads((launched.run / "summary.json").read_text())
    assert summary["updates"] == 1 and summary["episodes"] == EPISODES and summary["success_after"] is not None


def test_a_learner_is_lost_and_the_run_goes_on_with_fewer_nodes_and_learners(tmp_path, cluster, mark):
    """Two nodes, two learners; one is killed in mid-update: a line says how to go on; one node with one learner does,
    from the last checkpoint."""
    run = [*RUN, "trainer.total_episodes=48", "trainer.save_freq=1"]
    two = ["actor_rollout_ref.actor.fsdp_config.world_size=2", f"trainer.ray_address={cluster.address}"]
    launched = Launched(tmp_path, [*run, *two], mark=mark)
    wait_for_line(launched, "update 2:")
    learners = [p for p in launched.processes() if p.name().startswith("ray::Learner")]
    assert len(learners) == 2, [p.name() for p in launched.processes()]
    learners[-1].kill()
    assert launched.wait(START_S) == 1, launched.text()
    (error,) = [line for line in launched.text().splitlines() if line.startswith("error: ")]
    assert "a learner died in" in error and "resume_mode=auto" in launched.text()

    one = [*run, "trainer.nnodes=1", "actor_rollout_ref.actor.fsdp_config.world_size=1", "trainer.resume_mode=auto"]
    again = Launched(tmp_path, one, mark=mark)
    assert again.wait(START_S) == 0, again.text()
    assert "resumed after update 1" in again.text()
    summary = json.loads((again.run / "summary.json").read_text())
    assert summary["updates"] == 2 and summary["episodes"] == 48


@pytest.fixture
def bare_cluster(mark):
    """One node as the others have it, and one that was started with nothing but a PATH."""
    node = {"num_cpus": 8, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**node, "_system_config": NOTICED_SOON})
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={made.address}", "--block"]
    command += ["--num-cpus=8", f"--object-store-memory={STORE}"]
    second = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin"}, stdout=subprocess.DEVNULL, cwd="/")
    try:
        deadline = time.monotonic() + START_S
        while sum(node["Alive"] for node in made.global_state.node_table()) < 2:
            assert second.poll() is None and time.monotonic() < deadline, f"it ended with {second.poll()}"
            time.sleep(0.2)
        yield made
    finally:
        everything = psutil.Process(second.pid).children(recursive=True) if second.poll() is None else []
        second.terminate()
        for process in everything:
            process.terminate()
        _, alive = psutil.wait_procs(everything, timeout=20)
        for process in alive:
            process.kill()
        second.wait(20)
        made.shutdown()


def test_a_node_that_was_started_with_an_empty_environment_plays(tmp_path, bare_cluster, mark):
    """Its critic starts there, its worker's environments ask it, and their episodes count."""
    launched = Launched(tmp_path, [*RUN, f"trainer.ray_address={bare_cluster.address}"], mark=mark)
    assert launched.wait(START_S) == 0, launched.text()
    summary = json.loads((launched.run / "summary.json").read_text())
    assert summary["episodes"] == EPISODES and summary["updates"] == 1 and summary["episodes_lost"] == 0
    for place in range(2):
        log = (launched.run / "logs" / f"sidecar-{mark}-n{place}.log").read_text()
        assert f"'w{place}-" in log and "attached" in log, log
