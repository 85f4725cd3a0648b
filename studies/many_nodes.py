"""Episodes a minute against nodes: Ray nodes on one machine, whose simulators and policies sleep instead of computing.

    python -m studies.many_nodes [--nodes 1 2 4 8] [--environments 4] [--steps 48] [--repeats 3] [--write FILE]

All else is a run's: the driver's fleet; on each node a rollout worker, a sidecar (engine ``fixed``) and environment
processes; frames in shared memory, samples to the learner, weights to the workers. What sleeps, sleeps as long as it is
reckoned to take on an H100 node (``verl/trainer/capacity.py``): a LIBERO step, a pass of OpenVLA-OFT 7.5 B, a question
to VLAC-2B.
The learner looks at its pictures and makes no pass. Each node plays two episodes an environment in a rollout; the first
rollout is not counted.

Bending: ``ideal`` is what nodes that wait for nothing but their sleep would bring. Against it stand the seconds an
environment waits for its policy and sleeps too long (its process got no core), the milliseconds from a worker's report
to its next order, and the processor time of the driver and of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from studies.results import enter
from verl.envs.base import Camera

STEP_S = 0.2
PASS_S = 0.1  # eight observations of some 350 tokens: 42 TFLOP
CRITIC_MS = 1000 / 230  # a question
SIDE = 256
CHUNK = 8
GROUP = 8
STORE = 200 * 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures each count of nodes and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--environments", type=int, default=4, help="of a node")
    parser.add_argument("--steps", type=int, default=48, help="of an episode")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a JSON file, into whose `nodes` the figures go")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: dict[str, dict[str, float]] = {}
    for count in given.nodes:
        found[str(count)] = measure(count, given.environments, given.steps, given.repeats)
        print(f"{count} nodes: {json.dumps(found[str(count)])}", flush=True)
    if given.write is not None:
        rates = {count: figures["episodes_per_min"] for count, figures in found.items()}
        enter(given.write, "nodes", rates, nodes_detail=found)
    return 0


def measure(count: int, environments: int, steps: int, repeats: int) -> dict[str, float]:
    """A row: a cluster of ``count`` nodes, a run on it, ``repeats`` rollouts and updates; all gone afterwards."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 8, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        with tempfile.TemporaryDirectory() as folder:
            return played(cluster.address, folder, count, environments, steps, repeats)
    finally:
        ray.shutdown()
        cluster.shutdown()


def played(address: str, folder: str, count: int, environments: int, steps: int, repeats: int) -> dict[str, float]:
    """The figures of a run on the cluster at ``address``."""
    from rich.console import Console

    from studies.sleeping_actors import SleepingLearner, SleepingWorker
    from verl.launch.run_id import new_run_id
    from verl.trainer.assemble import Run
    from verl.trainer.cluster import start_ray
    from verl.trainer.load_config import load_config
    from verl.trainer.progress import Progress
    from verl.trainer.recorder import Recorder
    from verl.trainer.run_folder import RunFolder

    config, tree = load_config(keys(address, folder, count, environments, steps))
    start_ray(config)
    run_folder = RunFolder(folder, new_run_id())
    recorder = Recorder(config, run_folder, tree)
    sleeping = mock.patch.multiple("verl.trainer.cluster", RolloutWorker=SleepingWorker, Learner=SleepingLearner)
    try:
        with sleeping, Progress(Console(file=sys.stderr), config.trainer.total_episodes) as progress:
            with Run(config, run_folder, recorder, progress) as run:
                trainer = run.start()
                rounds = [one_round(trainer) for _ in range(1 + repeats)][1:]
                gaps = waits(run)
    finally:
        recorder.close()
    ideal = count * environments * 60 / (steps * STEP_S + steps / CHUNK * PASS_S)
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {
        "episodes_per_min": round(middle["episodes_per_min"], 1),
        "ideal": round(ideal, 1),
        **{name: round(value, 3) for name, value in middle.items() if name != "episodes_per_min"},
        "report_to_order_ms": round(1000 * statistics.median(gaps), 1),
    }


def keys(address: str, folder: str, count: int, environments: int, steps: int) -> list[str]:
    """Of the configuration."""
    rollout, critic = "actor_rollout_ref.rollout.", "critic.sidecar.config."
    episodes = 2 * environments * count
    group = min(GROUP, episodes)
    return [
        f"trainer.ray_address={address}",
        f"trainer.nnodes={count}",
        f"trainer.default_local_dir={folder}",
        "trainer.logger=[]",
        "trainer.videos=0",
        "trainer.total_episodes=1000000",
        "trainer.val_before_train=false",
        "env.name=studies.many_nodes:Sleeping",
        f"env.max_steps={steps}",
        f"data.train_batch_size={episodes // group}",
        f"data.n_samples={group}",
        "data.filter_accuracy=false",
        f"{rollout}envs_per_worker={environments}",
        f"{rollout}deterministic=false",
        "actor_rollout_ref.actor.ppo_epochs=1",
        "actor_rollout_ref.actor.recompute_log_prob=never",
        f"{critic}engine=fixed",
        f"{critic}fixed.per_query_ms={CRITIC_MS}",
        "critic.audit_min_precision=0",
    ]


def one_round(trainer: Any) -> dict[str, float]:
    """A rollout and its update."""
    import psutil

    everything = [psutil.Process(), *psutil.Process().children(recursive=True)]
    began, driver, whole = time.monotonic(), os.times(), used(everything)
    episodes = trainer.rollouts.run()
    rolled = time.monotonic()
    trainer._update(episodes)
    ended = time.monotonic()
    now = os.times()
    timings = [episode.end.timings for episode in episodes]
    steps = sum(episode.end.steps for episode in episodes)
    spent = {name: sum(one.get(name, 0.0) for one in timings) for name in ("physics", "policy_wait", "verdict_wait")}
    return {
        "episodes_per_min": len(episodes) * 60 / (ended - began),
        "rollout_s": rolled - began,
        "update_s": ended - rolled,
        "overslept_ms_a_step": 1000 * (spent["physics"] / steps - STEP_S),
        "policy_wait_s_an_episode": spent["policy_wait"] / len(episodes),
        "verdict_wait_s_an_episode": spent["verdict_wait"] / len(episodes),
        "driver_cores": (now.user + now.system - driver.user - driver.system) / (ended - began),
        "all_cores": (used(everything) - whole) / (ended - began),
    }


def used(processes: list[Any]) -> float:
    """Processor seconds of those that live."""
    import psutil

    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def waits(run: Any) -> list[float]:
    """Seconds from a report to the next order, of all workers."""
    import ray

    return [gap for worker in run.fleet.workers for gap in ray.get(worker.actor.gaps.remote(), timeout=60)]


class Sleeping:
    """An environment whose step takes what one of LIBERO does."""

    action_dim, tasks, instruction = 7, 1, "lift the red cube"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.max_steps, self.cameras = int(config["max_steps"]), (Camera("agentview", SIDE, SIDE),)

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None: ...

    def step(self, action: np.ndarray) -> bool:
        time.sleep(STEP_S)
        return False

    def render(self, camera: str, out: np.ndarray) -> None:
        out[:] = 7

    def proprio(self) -> np.ndarray:
        return np.zeros(8, np.float32)

    def close(self) -> None: ...


if __name__ == "__main__":
    sys.exit(main())
