"""What Ray's object store of this node holds, for the run's metrics: it must not grow from update to update."""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray._private import internal_api

logger = logging.getLogger(__name__)


def store_metrics() -> dict[str, float]:
    """``ray/objects`` and ``ray/mb``; empty where this Ray does not tell."""
    try:
        stats: Any = internal_api.get_memory_info_reply(internal_api.get_state_from_address(_address())).store_stats
    except (AttributeError, RuntimeError, OSError) as error:  # a private way: another Ray may have another
        logger.debug("Ray's store cannot be asked: %s", error)
        return {}
    return {
        "ray/objects": float(stats.num_local_objects),
        "ray/mb": stats.object_store_bytes_used / 2**20,
        "ray/spilled_mb": stats.spilled_bytes_total / 2**20,
    }


def _address() -> str:
    return str(ray.get_runtime_context().gcs_address)
