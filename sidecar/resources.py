"""How much of the machine a process takes that holds a model: threads, niceness, kernels that are kept."""

from __future__ import annotations

import logging
import os

from sidecar.config import Config

logger = logging.getLogger(__name__)
# oneDNN, and torch's layer over it, each keep a kernel for every shape of every layer that a CPU ever ran, 1024 of some
# 0.3 MB unless told. Batches have any size and prompts any length. So many hold all that one task needs.
_KERNELS = "512"


def limit_resources(config: Config) -> None:
    """Threads and niceness as configured; before torch is imported."""
    threads = config.torch_threads
    cores = len(os.sched_getaffinity(0))
    if threads is None:
        threads = 1 if cores <= 4 else min(8, cores // 2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)  # read when torch and numpy's libraries are loaded, which is after this
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, _KERNELS)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if config.nice:
        try:
            os.nice(config.nice)
        except PermissionError:
            logger.warning("nice=%d: not permitted, running at %d", config.nice, os.nice(0))
    if config.engine in ("direct", "swift") and config.devices is None:  # else the replicas import it
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
