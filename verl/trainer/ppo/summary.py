"""What a run shows at its end, as one mapping: ``summary.json`` and the table on the terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from verl.trainer.audit import Audit
from verl.trainer.ppo.counts import Counts
from verl.trainer.ppo.fleet_statistics import FleetStatistics
from verl.trainer.ppo.schedule import Schedule


def summarise(
    counts: Counts, schedule: Schedule, audit: Audit, fleet: FleetStatistics, sidecars: dict[str, int]
) -> dict[str, Any]:
    """NaN stands where there is nothing to tell. ``sidecars``: how many of each kind were replaced."""
    return {
        "success_before": counts.success_before,
        "success_after": counts.success_after,
        "eval_episodes": schedule.evaluation_episodes(),
        "eval_states": schedule.evaluation_states(),
        "episodes": counts.episodes,
        "updates": counts.updates,
        "rollouts_without_update": counts.skipped,
        "verdict_p50_ms": audit.latency_ms(50),
        "verdict_p99_ms": audit.latency_ms(99),
        "verdicts": audit.verdicts,
        "invalid_verdicts": audit.invalid,
        "value_holes": audit.value_holes,
        "outages": audit.outages,
        "critic_precision": audit.total.precision,
        "critic_recall": audit.total.recall,
        "confusion": asdict(audit.total),
        "groups_dropped": counts.dropped_groups,
        "episodes_lost": fleet.lost,
        "episodes_given_up": fleet.given_up,
        "episodes_dropped": fleet.dropped,
        "replaced": {
            "environments": fleet.environments_replaced,
            "rollout_workers": fleet.workers_replaced,
            **sidecars,
        },
        "policy_s": round(fleet.policy_s, 1),
        "time_s": {name: round(seconds, 1) for name, seconds in counts.time_s.items()},
    }
