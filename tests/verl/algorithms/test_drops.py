"""Dropped episodes and the gradient: what ``studies/drop_study.py`` measures, small."""

from __future__ import annotations

import pytest

from studies.drop_study import row

GROUPS = 2400


@pytest.mark.parametrize("state", ["hard", "easy"])
def test_drops_by_chance_change_no_expectation(state):
    """Groups smaller by half their episodes: mean advantage 0, and the whole gradient, within three standard errors."""
    one = row("random, smaller", state, GROUPS)
    assert abs(one["advantage"]) < 1e-6
    assert abs(one["along"] - 1) < 3 * one["along_se"] and one["along_se"] < 0.06
    assert one["across"] < 3 * one["across_se"]


@pytest.mark.parametrize("state", ["hard", "easy"])
def test_drops_by_outcome_change_the_gradients_length_and_not_its_direction(state):
    """Half of the failures gone: no part across the true gradient; its length follows p(1-p)."""
    one = row("failures, smaller", state, GROUPS)
    assert abs(one["advantage"]) < 1e-6
    assert one["across"] < 3 * one["across_se"]
    longer = {"hard": 1.36, "easy": 0.66}[state]
    assert abs(one["along"] - longer) < 3 * one["along_se"] + 0.03
