"""A sidecar's figures for a person: in groups, with units. The inspector and the sidecar's page show the same.

What a sidecar publishes is flat, and a name's end is its unit (``_ms``, ``_s``, ``_mb``, ``_share``). A name that no
group knows is shown under "other".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from shm_bridge.spec import Phase

Group: TypeAlias = tuple[str, list[tuple[str, str]]]

_GROUPS = {  # group: names, or how names begin
    "process": ("phase", "epoch", "uptime_s"),
    "questions": ("asked", "answered", "queue_depth"),
    "replies": ("ok", "invalid", "failed", "expired", "cancelled", "unreadable_pairs"),
    "done answered in": ("done_ms_",),
    "engine": ("engine_busy_share", "batches", "queries", "batch_size_mean", "batch_limit"),
    "seconds in all": ("queue_s", "engine_busy_s", "total_s"),
    "memory": ("memory_",),
    "replicas": ("replicas", "replicas_up", "replica_restarts", "replica_"),
}
_LABELS = {
    "queue_depth": "queries waiting",
    "engine_busy_share": "busy",
    "batch_size_mean": "mean batch size",
    "batch_limit": "largest batch",
    "queue_s": "in the queue",
    "engine_busy_s": "in the engine",
    "total_s": "asked to answered",
    "replicas": "in all",
    "replicas_up": "up",
    "replica_restarts": "restarts",
    "uptime_s": "up",
}


def grouped(figures: Mapping[str, Any]) -> list[Group]:
    """Groups that have something, in order; each a title, and labels with their values as text."""
    left = dict(figures)
    groups: list[Group] = []
    for title, names in _GROUPS.items():
        rows = []
        for one in names:
            for name in [name for name in left if name == one or (one.endswith("_") and name.startswith(one))]:
                rows.append((_label(name, one), text_of(name, left.pop(name))))
        groups.append((title, rows))
    groups.append(("other", [(_label(name, ""), text_of(name, value)) for name, value in left.items()]))
    return [group for group in groups if group[1]]


def text_of(name: str, value: Any) -> str:
    """``memory_host_mb`` of 9.9222 as ``9.9 MiB``; the phase by its name."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-" if value is None else str(value)
    if not math.isfinite(value):
        return "-"
    if name == "phase":
        return phase_name(value) or "-"
    if name.endswith("_share"):
        return f"{100 * value:.1f} %"
    if name == "uptime_s":
        return duration(value)
    for end, unit in (("_s", "s"), ("_mb", "MiB")):
        if name.endswith(end):
            return f"{value:,.1f} {unit}"
    if "_ms" in name:
        return f"{value:,.1f} ms"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def duration(seconds: float) -> str:
    """``95.3`` as ``1 min 35 s``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def phase_name(number: Any) -> str | None:
    """``ROLLOUT`` or ``UPDATE``; None for anything else."""
    return Phase(number).name if number in (Phase.ROLLOUT, Phase.UPDATE) else None


def _label(name: str, start: str) -> str:
    """What is left of the name when group and unit are said elsewhere."""
    if name in _LABELS:
        return _LABELS[name]
    rest = name.removeprefix(start) or name
    for unit in ("_mb", "_ms", "_s"):
        rest = rest.removesuffix(unit)
    return rest.replace("_", " ")
