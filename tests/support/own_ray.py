"""A small Ray of the tests' own, on this machine, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import ray


@contextmanager
def own_ray() -> Iterator[None]:
    """Started for the block; fails when a process stays that is not one of Ray's own workers.

    A worker that Ray has just started, in advance, looks for a daemon that is gone and ends by itself a minute later.
    """
    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    try:
        yield
    finally:
        everything = psutil.Process().children(recursive=True)
        ray.shutdown()
        _, alive = psutil.wait_procs(everything, timeout=20)
        early = [process for process in alive if _is_early_worker(process)]
        for process in early:
            process.kill()
        psutil.wait_procs(early, timeout=20)
        alive = [process for process in alive if process not in early]
    assert not alive, alive


def _is_early_worker(process: psutil.Process) -> bool:
    """Whether Ray started it before there was work for it."""
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "default_worker.py" in command or "ray::IDLE" in command
