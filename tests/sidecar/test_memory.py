"""A sidecar that has served many episodes holds no more than one that has served a few."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from shm_bridge import Kind, Lane
from sidecar.engines.offload import WeightOffload
from tests.support.sidecar_process import Sidecar, show, sidecar

MIB = 1 << 20
EPISODES = 60


def play(lanes: list[Lane], first: int, count: int) -> None:
    """Episodes of a few steps, each with its dones and its value list, in turn on the lanes."""
    for episode in range(first, first + count):
        lane = lanes[episode % len(lanes)]
        lane.end_episode()
        lane.begin_episode(episode, f"task {episode}")
        tickets = [show(lane, step) for step in range(4)]
        for ticket in [*tickets, lane.ask(Kind.VALUE, first=0, last=3)]:
            lane.wait(ticket, 30)


def held(one: Sidecar) -> tuple[int, int, int]:
    """Of the service: bytes of its own, descriptors, threads."""
    service = psutil.Process(one.service_pid())
    return service.memory_full_info().uss, service.num_fds(), service.num_threads()


def test_the_service_keeps_nothing_of_an_episode(tmp_path: Path) -> None:
    """Ever new episodes and tasks, some with unreadable answers: memory, descriptors and threads stay as they were."""
    script = ",".join(f"{batch}:garbage" for batch in range(50, 2000, 25))
    frames = (f"invalid.frames_dir={tmp_path}/frames", "invalid.max_files=5")
    with sidecar(tmp_path, f"fixed.script={script}", "metrics_port=0", *frames) as one:
        lanes = [one.lane(f"env-{i}") for i in range(3)]
        play(lanes, 1, EPISODES)
        before = held(one)
        play(lanes, 1 + EPISODES, 8 * EPISODES)
        after = held(one)
    assert after[0] - before[0] < MIB and after[1:] == before[1:]


def test_what_was_freed_goes_back_to_the_system_in_update() -> None:
    """Activations of a rollout's many shapes leave holes between what stays; the learner gets them."""
    weights = WeightOffload(torch.nn.Linear(1, 1), torch.device("cpu"), None)
    blocks = [torch.ones(16 << 10) for _ in range(2000)]  # 64 KiB each, too small for mappings of their own
    kept = blocks[::50]
    blocks.clear()
    before = psutil.Process().memory_info().rss
    weights.offload()
    assert len(kept) == 40 and before - psutil.Process().memory_info().rss > 64 * MIB
