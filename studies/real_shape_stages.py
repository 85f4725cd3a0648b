"""The stages of :mod:`studies.real_shape`, each run in a process of its own: ``RUN SHAPE FOLDER THREADS``.

A line of JSON for each stage: {stage, pid of the process concerned, begin, end (monotonic), s, more}.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SUITE = "libero_spatial"
CHUNK = 8
LONG_S = 3600.0  # for what a GPU does in a second


def report(stage: str, pid: int, begin: float, end: float, seconds: float | None = None, **more: float) -> None:
    """Tells the parent; ``seconds``: where the stage is a part of the time only."""
    taken = end - begin if seconds is None else seconds
    told = {"stage": stage, "pid": pid, "begin": begin, "end": end, "s": taken, "more": more}
    print(json.dumps(told), flush=True)


@contextmanager
def stage(name: str, pid: int | None = None, **more: float) -> Iterator[dict[str, float]]:
    """What is inside, timed; it may add figures."""
    begin = time.monotonic()
    yield more
    report(name, pid or os.getpid(), begin, time.monotonic(), **more)


# ---- checkpoints


def write_policy(shape: str, folder: Path, threads: int) -> None:
    """Shard by shard."""
    import torch

    from verl.models.openvla_oft.random_weights import PUBLISHED, SMALL, write_checkpoint

    torch.set_num_threads(threads)
    with stage("write random policy") as more:
        size = PUBLISHED if shape == "published" else SMALL
        more["gb"] = write_checkpoint(folder / "policy", size, SUITE) / 1e9


def write_critic(shape: str, folder: Path, threads: int) -> None:
    """In transformers' own format. Its output layer prefers digits, so that what it says can be read."""
    import torch

    from sidecar.bench.shapes import SHAPES, build

    torch.set_num_threads(threads)
    with stage("write random critic") as more, torch.no_grad():
        model, processor = build(SHAPES["vlac-2b" if shape == "published" else "tiny"], "cpu", torch.bfloat16)
        one, zero = (processor.tokenizer.convert_tokens_to_ids(digit) for digit in "10")
        rows = model.lm_head.weight
        rows[one] = 50 * rows[one]
        rows[zero] = -rows[one]
        model.save_pretrained(folder / "critic", max_shard_size="1GB")
        processor.save_pretrained(folder / "critic")
        more["gb"] = sum(tensor.nbytes for tensor in model.parameters()) / 1e9


# ---- the policy


def play(shape: str, folder: Path, threads: int) -> None:
    """A rollout worker loads the policy and plays one chunk in LIBERO; then a run's checkpoint is written."""
    from verl.trainer.assemble import rollout_options
    from verl.trainer.load_config import load_config
    from verl.workers.rollout import RolloutWorker

    config, _ = load_config(
        [
            *("env=libero", "hardware=laptop", f"data.task_suite_name={SUITE}", f"env.max_steps={CHUNK}"),
            f"actor_rollout_ref.model.path={folder / 'policy'}",
            *("actor_rollout_ref.rollout.dtype=bfloat16", "actor_rollout_ref.rollout.center_crop=true"),
            *("actor_rollout_ref.rollout.envs_per_worker=1", f"actor_rollout_ref.rollout.torch_threads={threads}"),
            "critic.enable=false",
        ]
    )
    options = rollout_options(config, "real-shape")
    with stage("policy: load"):
        worker = RolloutWorker(options)
    try:
        play_chunk(worker, folder)
    finally:
        worker.close()
    write_checkpoint(worker, folder)


def play_chunk(worker: Any, folder: Path) -> None:
    """One episode of one chunk; its frames are kept for the critic."""
    from verl.episode import EpisodeRequest

    begin, took, request = time.monotonic(), 0.0, [EpisodeRequest(0, 0, 0, 0, training=True, record=True)]
    episodes: list[Any] = []
    environment = 0
    while not episodes:
        advance = worker.advance(request, 5.0)
        environment = (worker.pool.pids() or [environment])[0]
        if advance.lost:
            raise SystemExit(f"the episode was lost: {advance.lost[0].reason} {advance.lost[0].traceback}")
        took, request, episodes = took + advance.policy_s, [], advance.episodes
    (episode,) = episodes
    end, timings = time.monotonic(), episode.end.timings
    np.savez(folder / "frames.npz", frames=episode.end.frames, task=episode.end.instruction)
    report("policy: chunk", os.getpid(), begin, end, took, actions=episode.end.steps)
    report("LIBERO: reset", environment, begin, end, timings["reset"])
    per_step = (timings["physics"] + timings["render"]) / episode.end.steps
    report("LIBERO: step", environment, begin, end, per_step, physics_s=timings["physics"] / episode.end.steps)


def write_checkpoint(worker: Any, folder: Path) -> None:
    """The policy's part of a run's checkpoint, as rank 0 of the learners and then the driver write it."""
    from verl.models.openvla_oft import OpenVLAOFTPolicy
    from verl.trainer.checkpoint import _sync
    from verl.trainer.manifest import write_manifest

    target = folder / "step-1"
    shutil.rmtree(target, ignore_errors=True)
    with stage("policy: write checkpoint") as more:
        begin = time.monotonic()
        OpenVLAOFTPolicy.save_state(
            folder / "policy", worker.policy.state_dict(), target / "policy", worker.policy.config.inputs
        )
        more["tensors_s"] = time.monotonic() - begin
        more["gb"] = write_manifest(target) / 1e9
        _sync(target)
    shutil.rmtree(target)


# ---- the critic


def judge(shape: str, folder: Path, threads: int) -> None:
    """A sidecar loads the critic, and judges the frames that were played."""
    from shm_bridge import CameraSpec, Controller, Kind, Lane, LaneSpec

    with np.load(folder / "frames.npz") as kept:
        frames, task = kept["frames"], str(kept["task"])
    run_id = f"real-shape-{secrets.token_hex(4)}"
    begin = time.monotonic()
    with sidecar(run_id, folder / "critic", threads) as process, Controller.connect(run_id, LONG_S) as controller:
        controller.wait_ready(LONG_S)
        service = int(controller.status()["pid"])
        report("critic: load", service, begin, time.monotonic(), processes=len(children(process.pid)))
        spec = LaneSpec((CameraSpec("agentview", *frames.shape[1:3]),), frames=len(frames))
        with Lane.attach(run_id, spec, timeout=LONG_S) as lane:
            lane.begin_episode(0, task)
            for step, frame in enumerate(frames):
                place = lane.reserve()
                place["agentview"][...] = frame
                lane.publish(place, step)
            with stage("critic: done", service) as more:
                more["valid"] = lane.wait(lane.ask(Kind.DONE, 0), LONG_S).valid
            with stage("critic: critic", service) as more:
                more["valid"] = lane.wait(lane.ask(Kind.CRITIC, before=1, after=len(frames) - 1), LONG_S).valid
            with stage("critic: 8 dones", service) as more:
                tickets = [lane.ask(Kind.DONE, step) for step in range(1, len(frames))]
                more["valid"] = sum(lane.wait(ticket, LONG_S).valid for ticket in tickets)


@contextmanager
def sidecar(run_id: str, model: Path, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """With limits for a CPU: a batch of VLAC-2B takes seconds there."""
    keys = [f"run_id={run_id}", f"model={model}", "device=cpu", "dtype=bfloat16", f"torch_threads={threads}"]
    keys += ["direct.force_number=true", "log.level=warning", "health.probe_every_s=0"]
    keys += [f"health.{name}={LONG_S}" for name in ("start_s", "batch_s", "heartbeat_s")]
    process = subprocess.Popen([sys.executable, "-m", "sidecar", *keys], stdout=sys.stderr)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def children(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


RUNS = {"policy checkpoint": write_policy, "policy": play, "critic checkpoint": write_critic, "critic": judge}

if __name__ == "__main__":
    RUNS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
