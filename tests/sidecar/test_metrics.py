"""What the sidecar counts: replies by what became of them."""

from __future__ import annotations

from prometheus_client import generate_latest

from shm_bridge import Kind, Status
from sidecar.metrics import Metrics
from sidecar.reply_builder import ExplainedReply

MS = 1_000_000


def reply(status: Status, **more: int) -> ExplainedReply:
    return ExplainedReply(status=status, valid=status is Status.OK, **more)


def test_what_nobody_waited_for_is_cancelled_whatever_it_said() -> None:
    """An episode that ended meanwhile says nothing about the model, nor about an outage."""
    metrics = Metrics("fixed")
    for status in Status:
        metrics.answered(Kind.DONE, reply(status, done=True, queue_us=1000), False, 1000 * MS)
    metrics.answered(Kind.VALUE, reply(Status.INVALID, unreadable=3), False, 1000 * MS)
    metrics.answered(Kind.DONE, reply(Status.INVALID), True, 2 * MS)
    counts = metrics.snapshot()
    wanted = {"ok": 0, "invalid": 1, "failed": 0, "expired": 0, "cancelled": len(Status) + 1, "unreadable_pairs": 0}
    assert {name: counts[name] for name in wanted} == wanted
    assert "late" not in counts and counts["queue_s"] == 0 and counts["total_s"] == 0.002
    page = generate_latest(metrics.registry).decode()
    assert 'vlac_sidecar_verdicts_total{done="false",kind="DONE",status="INVALID"} 1.0' in page
    assert f'vlac_sidecar_verdicts_total{{done="false",kind="DONE",status="CANCELLED"}} {len(Status)}.0' in page
    assert f"vlac_sidecar_late_verdicts_total {len(Status) + 1}.0" in page and 'done="true"' not in page
    assert 'vlac_sidecar_stage_seconds_count{kind="DONE",stage="total"} 1.0' in page
    assert 'vlac_sidecar_stage_seconds_count{kind="VALUE"' not in page


def test_percentiles_are_of_replies_that_somebody_took() -> None:
    """Not of an episode that ended while its question waited, nor of a deadline that passed."""
    metrics = Metrics("fixed")
    metrics.answered(Kind.DONE, reply(Status.OK), True, 2 * MS)
    metrics.answered(Kind.DONE, reply(Status.OK), False, 1000 * MS)
    metrics.answered(Kind.DONE, reply(Status.EXPIRED), True, 1000 * MS)
    counts = metrics.snapshot()
    assert counts["done_ms_p50"] == counts["done_ms_p99"] == 2.0
