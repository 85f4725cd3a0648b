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


def test_lost_and_dropped_episodes_and_each_tasks_success_are_in_the_table():
    """Also where nothing was lost; one update is one update, and with one task there is no row of tasks."""
    text = table(eval_states=10, episodes_lost=3, episodes_dropped=2, success_by_task={"0: lift": 0.5, "1: open": 1.0})
    assert "3 lost (played again), 2 dropped" in text and "16 in 1 update " in text
    assert "by task" in text and " 50.0 %  0: lift" in text and "100.0 %  1: open" in text
    text = table(eval_states=10, updates=2, success_by_task={"0: lift": 0.9})
    assert "0 lost (played again), 0 dropped" in text and "16 in 2 updates" in text and "by task" not in text


def test_of_many_tasks_the_lowest_are_shown():
    """LIBERO-90's table stays readable."""
    text = table(eval_states=90, success_by_task={f"{i}: task": i / 90 for i in range(89, -1, -1)})
    assert "the 12 lowest of 90 tasks" in text and "11: task" in text and "12: task" not in text


def test_an_evaluation_alone_has_one_row_of_success():
    """trainer.val_only: there is no before and after."""
    text = table(success_before=0.4, success_after=0.4, eval_states=10, episodes=0, updates=0)
    assert text.count("success by simulator") == 1 and "40.0 %" in text and "training episodes" not in text


def test_an_audited_evaluation_has_figures_of_its_own():
    """critic.audit_val: the critic against the simulator in the latest evaluation."""
    counts = {"both": 6, "false_done": 2, "missed": 0, "neither": 2}
    text = table(eval_states=10, confusion_in_evaluation=counts)
    assert "critic against simulator, evaluation episodes" in text and "precision 75.0 %, recall 100.0 %" in text
    assert "training episodes" not in text.partition("evaluation episodes")[2]
