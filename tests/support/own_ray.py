"""A small Ray of the tests' own, on this machine, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import ray


@contextmanager
def own_ray(gpus: int = 0) -> Iterator[None]:
    """Started for the block, with so many GPUs that are none; fails when a process of it stays. What other tests of
    this process left is not of it, nor is multiprocessing's tracker, which Python starts once and keeps to the end."""
    before = set(psutil.Process().children(recursive=True))
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        everything = [one for one in psutil.Process().children(recursive=True) if one not in before]
        commands = {one: _command(one) for one in everything}
        ray.shutdown()
        ours = [one for one in everything if "multiprocessing" not in commands[one]]
        _, alive = psutil.wait_procs(ours, timeout=60)
    assert not alive, [commands[one] for one in alive]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
