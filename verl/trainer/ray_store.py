"""Ray's object store: what it holds, for the run's metrics, and how much of it weights on their way may take."""

from __future__ import annotations

import logging
import os
from typing import Any

import grpc
import ray
from ray._private import internal_api, state

logger = logging.getLogger(__name__)
TIMEOUT_S = 10.0
LARGEST_BUCKET = 64 * 2**20
FOR_WEIGHTS = 1 / 8
LEAST_BYTES = 256 * 2**20  # of a store of our own
ROOM = 1.25  # for what is still held while the next is made
OF_SHM = 0.5  # of what is free there: the lanes' frames lie there, too


def store_metrics() -> dict[str, float]:
    """Summed over the nodes; empty where this Ray does not tell, or does not answer in time.

    Returns:
        ``ray/objects``, ``ray/mb`` in the store; of those ``ray/overflow_mb`` in files, since they did not fit and were
        in use; ``ray/spilled_mb`` written to disk so far, since they did not fit.
    """
    try:
        stats: Any = internal_api.get_memory_info_reply(state.state, timeout_seconds=TIMEOUT_S).store_stats
    except (AttributeError, TypeError, AssertionError, OSError, ray.exceptions.RaySystemError, grpc.RpcError) as error:
        logger.warning("Ray's store cannot be asked: %s", error)  # a private way, and a node may just be dying
        return {}
    return {
        "ray/objects": float(stats.num_local_objects),
        "ray/mb": stats.object_store_bytes_used / 2**20,
        "ray/overflow_mb": stats.object_store_bytes_fallback / 2**20,
        "ray/spilled_mb": stats.spilled_bytes_total / 2**20,
    }


def store_for(wanted: float) -> float:
    """Size of a store through which ``wanted`` bytes go at once."""
    return max(LEAST_BYTES, ROOM * wanted)


def own_store_bytes(wanted: float) -> int:
    """:func:`store_for` of a store of our own, as far as there is room. What does not fit goes to files, slowly."""
    shm = os.statvfs("/dev/shm")
    return int(max(LEAST_BYTES, min(store_for(wanted), OF_SHM * shm.f_bavail * shm.f_frsize)))


def bucket_bytes(in_flight: int) -> int:
    """Size of a bucket of weights, as :func:`bucket_of` of the smallest node's store."""
    stores = [node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]]
    return bucket_of(min(stores), in_flight)


def bucket_of(store: float, in_flight: int) -> int:
    """Size of a bucket, so that ``in_flight`` of them take at most :data:`FOR_WEIGHTS` of a store of ``store`` bytes.

    Pages of the store that were used once stay in memory, in each process that has read them.
    """
    return max(2**20, min(LARGEST_BUCKET, int(store * FOR_WEIGHTS / in_flight)))
