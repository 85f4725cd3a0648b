"""A sidecar's figures as a person reads them."""

from __future__ import annotations

import math

from shm_bridge.inspect import table
from shm_bridge.inspect.figures import duration, grouped, text_of


def test_units_and_names_instead_of_numbers() -> None:
    """The end of a name is its unit; the phase has a name; what is no number is a dash."""
    shown = {"phase": 1, "memory_host_mb": 9.9222, "engine_busy_share": 0.123, "done_ms_p50": 54.99, "queue_s": 0.2}
    assert [text_of(name, value) for name, value in shown.items()] == [
        "ROLLOUT",
        "9.9 MiB",
        "12.3 %",
        "55.0 ms",
        "0.2 s",
    ]
    assert [text_of("x", value) for value in (1234.0, 1.05, None, math.nan, math.inf, "a")] == [
        "1,234", "1.05", "-", "-", "-", "a",
    ]  # fmt: skip
    assert text_of("uptime_s", math.nan) == text_of("phase", 0) == "-"
    assert [duration(s) for s in (5.9, 95, 3720)] == ["5 s", "1 min 35 s", "1 h 2 min"]


def test_groups_are_in_order_and_nothing_is_left_out() -> None:
    """Whatever order they come in; a name that no group knows is under "other"."""
    figures = {"new": 3, "replica_0_up": 1, "failed": 0, "ok": 2, "asked": 2, "replicas": 1}
    assert grouped(figures) == [
        ("questions", [("asked", "2")]),
        ("replies", [("ok", "2"), ("failed", "0")]),
        ("replicas", [("in all", "1"), ("0 up", "1")]),
        ("other", [("new", "3")]),
    ]


def test_show_is_aligned_with_milliseconds() -> None:
    """One line a group; latencies of microseconds, milliseconds and minutes with three digits."""
    counts = dict.fromkeys(("questions", "verdicts", "invalid", "failed", "late", "rejected", "reclaimed"), 1234)
    shown = counts | {"run_id": "r", "sidecar": "ready", "pid": 7, "epoch": 1, "phase": "ROLLOUT"}
    shown |= {"phase_requested": "UPDATE", "latency_us": {"p50": 64.0, "p90": 46341.0, "p99": 120000000.0}}
    shown |= {"batch_sizes": {"1": 133}, "metrics": {"phase": 1, "uptime_s": 61, "ok": 3}, "lanes": []}
    head, _, *lines, _, _ = table.show_text(shown).splitlines()
    assert head == "run r   sidecar ready (pid 7)   epoch 1   phase ROLLOUT (UPDATE is asked for)   up 1 min 1 s"
    assert lines[1] == "all answered in   p50 0.064 ms   p90 46.3 ms   p99 120000 ms"
    assert "questions 1,234" in lines[0]
    assert all(line[15:18] == "   " for line in lines)
    assert lines[-1] == "replies           ok 3"
