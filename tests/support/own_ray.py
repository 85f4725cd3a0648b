"""A small Ray of the tests' own, on this machine, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import ray


@contextmanager
def own_ray() -> Iterator[None]:
    """Started for the block; fails when a process of it stays."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    try:
        yield
    finally:
        everything = psutil.Process().children(recursive=True)
        ray.shutdown()
        _, alive = psutil.wait_procs(everything, timeout=60)
    assert not alive
