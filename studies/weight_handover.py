"""What handing the weights out costs: memory above idle in every process, spilled bytes, seconds.

    python -m studies.weight_handover [--workers 1 8] [--gib 1 0.25] [--dtype float32] [--label after] [--write FILE]

Two learners under FSDP2 (gloo) and real rollout workers, a Ray of its own as a run starts it. ``--gib`` is the size of
the policy's state in the rollout's ``--dtype``. The code that is measured is the one that Python finds: for another
commit's, put its checkout first into PYTHONPATH, and this one's after it.

Peaks are those of /proc: private (RssAnon and RssFile, where weights lie that were mapped from their file) and shared
(RssShmem: Ray's store) apart, each above what the process had when all had played an episode; the ratio is private and
shared together, of the worst process, over the state. The node's total is the private peaks of all processes at one
moment and what is in use of the store. Spilled is what a hand-over had written to files, since the store was full.
Seconds: median of ``--repeats``; a GiB is one that a worker took.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studies.results import enter
from studies.watching import Watching, rss

GIB = 2**30
EVERY_S = 0.01
RANKS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures each pair of ``--workers`` and ``--gib`` and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--gib", type=float, nargs="+", default=[1.0, 0.25])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--label", default="after", help="before or after: where it stands in the file")
    parser.add_argument("--write", type=Path, help="a JSON file, into whose `handover` the figures go")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures = {}
    for workers, gib in zip(given.workers, given.gib, strict=True):
        figures[str(workers)] = measured = measure(workers, gib, given.dtype, given.repeats)
        print(f"{workers} workers, {measured['state_gib']} GiB in {given.dtype}: {json.dumps(measured)}", flush=True)
    if given.write is not None:
        enter(given.write, "handover", {given.label: figures})
    return 0


def measure(workers: int, gib: float, dtype: str, repeats: int) -> dict[str, float]:
    """One row: starts all parts, hands the weights out ``repeats`` times, ends all parts."""
    import ray

    from verl.trainer.cluster import start_ray
    from verl.trainer.heartbeat import LearnerWatch
    from verl.trainer.load_config import load_config
    from verl.trainer.ppo.learners import Learners
    from verl.trainer.ray_store import store_metrics

    with tempfile.TemporaryDirectory() as folder:
        size = make_checkpoint(Path(folder), int(gib * GIB), dtype)
        config, _ = load_config(
            [f"actor_rollout_ref.model.path={folder}", f"actor_rollout_ref.rollout.workers={workers}"]
        )
        start_ray(config)
        try:
            learners, takers = start(config, folder, workers, dtype)
            roles = {"driver": [os.getpid()], "learner": pids(learners), "worker": pids(takers)}
            sending = Learners(learners, LearnerWatch(learners, print, 1800.0), "study")
            before, seconds, memory = store_metrics(), [], Memory(roles)
            with memory:
                for _ in range(repeats):
                    started = time.monotonic()
                    hand_over(sending, takers)
                    seconds.append(time.monotonic() - started)
            spilled = (store_metrics()["ray/spilled_mb"] - before["ray/spilled_mb"]) / repeats + memory.overflow
        finally:
            ray.shutdown()
    took = statistics.median(seconds)
    return {
        "state_gib": round(size / GIB, 3),
        "peak_ratio": round(memory.worst() / size, 3),
        **{name: round(value / GIB, 3) for name, value in memory.peaks().items()},
        "seconds": round(took, 2),
        "s_per_gib": round(took / (size / GIB) / workers, 3),
        "spilled_gb": round(spilled * 2**20 / 1e9, 3),
    }


def make_checkpoint(folder: Path, size: int, dtype: str) -> int:
    """A random policy of about ``size`` bytes in ``dtype``; how many it has."""
    import torch

    from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats

    width = getattr(torch, dtype).itemsize
    shape = TinySize(image=32, patch=16, vision_dim=64, vision_heads=2, depth=2, hidden=1024, heads=16, mlp=4096)
    layer = 4 * shape.hidden**2 + 3 * shape.hidden * shape.mlp
    shape = dataclasses.replace(shape, layers=round(size / width / layer))
    policy = make_policy(folder, shape, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    return width * sum(tensor.numel() for tensor in policy.state_dict().values())


def start(config: Any, folder: str, workers: int, dtype: str) -> tuple[list[Any], list[Any]]:
    """Learners and rollout workers, all ready."""
    from verl.episode import EpisodeRequest
    from verl.trainer import ray_wait
    from verl.trainer.assemble import learner_options, rollout_options
    from verl.trainer.cluster import _free_port
    from verl.trainer.heartbeat import reporting
    from verl.workers.learner import Learner
    from verl.workers.rollout import RolloutWorker

    pool = {"env_config": {"name": "studies.weight_handover:Still"}, "critic": None, "size": 1}
    playing = dataclasses.replace(
        rollout_options(config, "study"), unnorm_key="tiny", dtype=dtype, device="cpu", pool=pool
    )
    learning = dataclasses.replace(learner_options(config), unnorm_key="tiny", rollout_dtype=dtype, threads=1)
    address = f"127.0.0.1:{_free_port()}"
    learners = [reporting(Learner).options(num_cpus=0).remote(learning, rank, RANKS, address) for rank in range(RANKS)]
    takers = [reporting(RolloutWorker).options(num_cpus=0).remote(playing) for _ in range(workers)]
    ray_wait.get([actor.report.remote() for actor in (*learners, *takers)], 600, "the start")
    ray_wait.get(
        [taker.advance.remote([EpisodeRequest(0, 0, 0, 0, True)], 120.0) for taker in takers], 200, "an episode"
    )
    return learners, takers


def hand_over(sending: Any, takers: list[Any]) -> None:
    """As a run does it, in the code that is measured."""
    import ray

    if hasattr(sending, "hand_over"):
        lost = sending.handed_over(sending.hand_over([(i, taker, None) for i, taker in enumerate(takers)]))
        assert not lost, lost
    else:
        reference = sending.weights()
        ray.get([taker.load_weights.remote(reference) for taker in takers])


def pids(actors: list[Any]) -> list[int]:
    import ray

    return [report.pid for report in ray.get([actor.report.remote() for actor in actors])]


class Memory(Watching):
    """Watches processes from another thread while it is entered. ``roles``: their numbers, by what they are."""

    def __init__(self, roles: Mapping[str, Sequence[int]]) -> None:
        self.names = {pid: role for role, there in roles.items() for pid in there}
        self.idle = {pid: resident(pid) for pid in self.names}
        self.most = {pid: (0, 0, 0) for pid in self.names}  # private, shared, both at one moment; above idle
        self.total, self.overflow = 0, 0.0
        super().__init__()

    def watch(self) -> None:
        from verl.trainer.ray_store import store_metrics

        ask = time.monotonic()
        store = 0.0
        while not self.left.wait(EVERY_S):
            private_of_all = 0
            for pid, (private_idle, shared_idle) in self.idle.items():
                private, shared = (now - then for now, then in zip(resident(pid), (private_idle, shared_idle)))
                private_of_all += private
                most = self.most[pid]
                self.most[pid] = (max(most[0], private), max(most[1], shared), max(most[2], private + shared))
            if time.monotonic() > ask:
                there, ask = store_metrics(), time.monotonic() + 0.2
                store = (there.get("ray/mb", 0.0) + there.get("ray/overflow_mb", 0.0)) * 2**20
                self.overflow = max(self.overflow, there.get("ray/overflow_mb", 0.0))
            self.total = max(self.total, int(private_of_all + store))

    def worst(self) -> int:
        """Bytes above idle of the process that had the most."""
        return max(both for _, _, both in self.most.values())

    def peaks(self) -> dict[str, int]:
        """Bytes above idle: private and shared of the worst process of each role, and of all together."""
        of_role: dict[str, int] = {}
        for place, kind in enumerate(("private", "shared")):
            for role in dict.fromkeys(self.names.values()):
                of_role[f"{role}_{kind}_gib"] = max(
                    self.most[p][place] for p, name in self.names.items() if name == role
                )
        return {**of_role, "node_gib": self.total}


def resident(pid: int) -> tuple[int, int]:
    """Bytes in memory that are the process's own, and that it shares."""
    found = rss(pid)
    return found["RssAnon"] + found["RssFile"], found["RssShmem"]


class Still:
    """An environment that nobody plays in."""

    action_dim, tasks, max_steps, instruction = 7, 1, 8, "lift the red cube"

    def __init__(self, config: Mapping[str, Any]) -> None:
        from verl.envs.base import Camera

        self.cameras = (Camera("agentview", 32, 32),)

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None: ...

    def step(self, action: np.ndarray) -> bool:
        return False

    def render(self, camera: str, out: np.ndarray) -> None: ...

    def proprio(self) -> np.ndarray:
        return np.zeros(8, np.float32)

    def close(self) -> None: ...


if __name__ == "__main__":
    sys.exit(main())
