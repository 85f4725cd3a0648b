"""What handing an update's samples to the learners costs: memory above idle in every process, spilled bytes, seconds.

    python -m studies.samples_handover [--episodes 64] [--chunks 64] [--image 256] [--label after] [--write FILE]

Two learners with a tiny policy, a Ray of its own as a run starts it, and episodes as rollouts bring them: 64 of 64
chunks, that is 512 steps, with one picture a chunk. The learners look at each picture that is theirs and pass none
through the policy. The code that is measured is the one that Python finds, as for :mod:`studies.weight_handover`, whose
way of measuring memory it is. Memory is counted from when the driver has the episodes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studies.results import enter
from studies.weight_handover import GIB, RANKS, Memory, pids

LENGTH = 8  # steps of a chunk


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures once and prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--image", type=int, default=256)
    parser.add_argument("--label", default="after", help="before or after: where it stands in the file")
    parser.add_argument("--write", type=Path, help="a JSON file, into whose `samples` the figures go")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures = measure(given.episodes, given.chunks, given.image)
    print(f"{given.label}: {json.dumps(figures)}", flush=True)
    if given.write is not None:
        enter(given.write, "samples", {given.label: figures})
    return 0


def measure(episodes: int, chunks: int, image: int) -> dict[str, float]:
    """Starts Ray and the learners, has them make one update, ends all."""
    import ray

    from verl.algorithms.batch import build_samples
    from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats
    from verl.trainer.cluster import start_ray
    from verl.trainer.heartbeat import LearnerWatch
    from verl.trainer.load_config import load_config
    from verl.trainer.ppo.learners import Learners
    from verl.trainer.ray_store import store_metrics

    shape = TinySize(image=32, patch=16, vision_dim=24, vision_heads=2, depth=2, hidden=32, layers=2, heads=2, mlp=48)
    with tempfile.TemporaryDirectory() as folder:
        make_policy(Path(folder), shape, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
        actor = "actor_rollout_ref.actor."
        config, _ = load_config(
            [f"actor_rollout_ref.model.path={folder}", f"{actor}ppo_epochs=1", f"{actor}recompute_log_prob=never"]
        )
        start_ray(config)
        try:
            learners = start(config)
            played = [episode(number, chunks, image) for number in range(episodes)]
            size = sum(one.decisions.images.nbytes for one in played)
            updating = Learners(learners, LearnerWatch(learners, print, 1800.0), "study")
            before, memory = store_metrics(), Memory({"driver": [os.getpid()], "learner": pids(learners)})
            with memory:
                started = time.monotonic()
                seen = updating.update(build_samples(played, config.algorithm, LENGTH, 7), 1)
                seconds = time.monotonic() - started
            assert seen["pictures"] == episodes * chunks, seen
            spilled = store_metrics()["ray/spilled_mb"] - before["ray/spilled_mb"] + memory.overflow
        finally:
            ray.shutdown()
    return {
        "samples_gib": round(size / GIB, 3),
        "peak_ratio": round(memory.worst() / size, 3),
        **{name: round(value / GIB, 3) for name, value in memory.peaks().items()},
        "seconds": round(seconds, 2),
        "spilled_gb": round(spilled * 2**20 / 1e9, 3),
    }


def start(config: Any) -> list[Any]:
    """The learners, ready. They count what they see instead of learning from it."""
    from verl.trainer import ray_wait
    from verl.trainer.assemble import learner_options
    from verl.trainer.cluster import _free_port
    from verl.trainer.heartbeat import reporting
    from verl.workers.batch_split import micro_batches
    from verl.workers.learner import Learner

    class Looking(Learner):
        def _mini_batch(self, batch: Any, first: Any) -> Any:
            seen = 0
            for part, weight in micro_batches(batch, self._shares(len(batch))):
                pictures = np.asarray(part.images)
                seen += len(pictures) if weight and pictures.any() else 0
                self.work.step()
            return {**self._sum_over_ranks({"pictures": float(seen)}), "clip_fraction": 0.0, "made": True}

        def update(self, samples: Any, step: int) -> dict[str, float]:
            metrics = super().update(samples, step)  # of which this is a mean over the mini-batches
            return {"pictures": metrics["pictures"] * metrics["steps"]}

    learning = dataclasses.replace(learner_options(config), unnorm_key="tiny", threads=1)
    address = f"127.0.0.1:{_free_port()}"
    learners = [reporting(Looking).options(num_cpus=0).remote(learning, rank, RANKS, address) for rank in range(RANKS)]
    ray_wait.get([actor.report.remote() for actor in learners], 600, "the start")
    return learners


def episode(number: int, chunks: int, image: int) -> Any:
    """One that has ended, with pictures that differ."""
    from verl.episode import Decisions, Episode, EpisodeEnd, EpisodeRequest

    rng = np.random.default_rng(number)
    steps, tokens = chunks * LENGTH, (chunks, LENGTH * 7)
    end = EpisodeEnd(
        request=EpisodeRequest(number, number // 8, 0, 0, True),
        instruction="lift the red cube",
        steps=steps,
        chunks=chunks,
        complete=number % 2 == 0,
        score=float(number % 2),
        step_rewards=np.eye(1, steps, steps - 1, dtype=np.float32)[0] * (number % 2),
        env_success=False,
        env_success_step=None,
        asked=np.zeros(0, np.int64),
        probabilities=np.zeros(0, np.float32),
        values=None,
        value_steps=(),
        invalid=0,
        latencies_us=np.zeros(0, np.int64),
    )
    images = rng.integers(1, 255, (chunks, 1, image, image, 3), np.uint8)
    decisions = Decisions(
        images, np.zeros((chunks, 8), np.float32), np.zeros(tokens, np.int64), np.zeros(tokens, np.float32)
    )
    return Episode(end, decisions)


if __name__ == "__main__":
    sys.exit(main())
