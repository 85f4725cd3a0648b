"""The study that holds the memory plan beside a run: what it compares, and how it ends the run."""

from __future__ import annotations

import subprocess

from studies.plan_against_run import compare, end, off


def test_what_was_planned_and_never_seen_is_off():
    """A renamed process would have dropped out of the comparison."""
    rows = compare({"driver": 2e9, "rollout": 1e9}, {"driver": 2.1e9, "other": 1e9})
    assert rows == {"driver": (2.0, 2.1), "rollout": (1.0, 0.0)}
    assert off(*rows["rollout"]) == 1.0 and off(*rows["driver"]) < 0.05 and off(0.0, 0.0) == 0.0


def test_a_run_that_does_not_end_is_killed():
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 600"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()  # now it ignores SIGTERM
        end(child, 0.1)
    assert child.returncode == -9
