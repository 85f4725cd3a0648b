"""Seconds and memory of what runs on a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from verl.workers.weight_receiver import finish


def timed(what: Callable[[], object], device: torch.device, seconds: float, most: int = 50) -> float:
    """Seconds that ``what`` takes: the median of the runs that fit into ``seconds``, after one that does not count."""
    what()
    times: list[float] = []
    end = time.monotonic() + seconds
    while not times or (time.monotonic() < end and len(times) < most):
        finish(device)
        start = time.perf_counter()
        what()
        finish(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def most_reserved_gb(device: torch.device) -> float:
    """The most that this process held on the card since the last call; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.init()  # type: ignore[no-untyped-call]  # else there are no statistics to reset before the first work
    most = torch.cuda.max_memory_reserved(device) / 1e9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return most
