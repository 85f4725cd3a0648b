"""The table at a run's end."""

from __future__ import annotations

import pytest
from rich.console import Console

from verl.trainer.report.table import print_summary, wilson


def table(**summary):
    """What is printed of a run."""
    whole = {
        "run_id": "r",
        "success_before": None,
        "success_after": 0.9,
        "episodes": 16,
        "updates": 1,
        "wall_s": 1.0,
        "verdict_p50_ms": float("nan"),
        "time_s": {},
        "episode_s": {},
        "confusion": {},
        **summary,
    }
    console = Console(record=True, width=120)
    print_summary(console, whole)
    return console.export_text()


def test_n_and_the_interval_are_of_distinct_states():
    """500 episodes from 100 states are 100 trials at most: the interval is that of 90 of 100, not of 450 of 500."""
    assert "90.0 %  (95 %: 83 to 94, n=100)" in table(eval_episodes=500, eval_states=100)
    assert "90.0 %  (95 %: 87 to 92, n=500)" in table(eval_episodes=500, eval_states=500)


@pytest.mark.parametrize(("successes", "trials"), [(9, 10), (0, 10), (450, 500)])
def test_the_interval_holds_the_share(successes, trials):
    low, high = wilson(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
