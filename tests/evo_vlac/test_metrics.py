"""Metrics agree with their definitions and are never NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from evo_vlac.errors import OptionError
from evo_vlac.metrics import any_readable, binary, calibration, negative_rate, voc, voc_f1

FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=2, max_size=60))
def test_voc_is_spearmans_correlation_with_time(values: list[float]) -> None:
    """The same as scipy's, ties included; a constant list has none: 0."""
    if len(set(values)) == 1:
        assert voc(values) == 0.0
    else:
        assert voc(values) == pytest.approx(spearmanr(values, np.arange(len(values))).statistic, abs=1e-9)


@given(st.lists(st.floats() | st.just(math.nan), max_size=20))
def test_voc_is_never_nan(values: list[float]) -> None:
    """Empty, short, constant, with NaN or infinity: a number between -1 and 1."""
    assert -1 <= voc(values) <= 1


def test_negative_rate() -> None:
    """The share of negative ones among those known; of none it is 0."""
    assert negative_rate([1, -1, 0, math.nan]) == pytest.approx(1 / 3)
    assert negative_rate([]) == 0.0 and negative_rate([math.nan]) == 0.0


def test_critics_that_say_something() -> None:
    """One that could be read is enough; none of none."""
    assert any_readable([math.nan, 0.0])
    assert not any_readable([math.nan]) and not any_readable([])


def test_voc_f1_is_the_harmonic_mean() -> None:
    """0 where one of the two is not positive."""
    assert voc_f1(0.5, 1.0) == pytest.approx(2 / 3)
    assert voc_f1(-0.5, 1.0) == 0 and voc_f1(0.5, 0.0) == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=50))
def test_counts_add_up(pairs: list[tuple[bool, bool]]) -> None:
    """Every verdict is counted once, and all shares that there are lie between 0 and 1."""
    table = binary([s for s, _ in pairs], [t for _, t in pairs])
    assert table.total == len(pairs)
    shares = (table.precision, table.recall, table.f1, table.accuracy)
    assert all(share is None or 0 <= share <= 1 for share in shares)


def test_shares_of_nothing() -> None:
    """None, not 1.0: a critic that never says done has no precision, and data without a success no recall."""
    table = binary([False, False], [False, False])
    assert (table.precision, table.recall, table.f1, table.accuracy) == (None, None, None, 1.0)
    silent = binary([False], [True])
    assert (silent.precision, silent.recall, silent.f1) == (None, 0.0, 0.0)
    assert binary([], []).accuracy is None


def test_precision_and_recall() -> None:
    """By hand."""
    table = binary([True, True, False, False], [True, False, True, False])
    assert (table.precision, table.recall, table.f1, table.accuracy) == (0.5, 0.5, 0.5, 0.5)


def test_calibration_of_a_calibrated_critic_is_small() -> None:
    """Said 0.25, true in a quarter: no calibration error; said 1.0, true never: all of it."""
    good = calibration([0.25] * 4, [True, False, False, False])
    assert good.ece == pytest.approx(0.0) and good.bins[0].count == 4
    bad = calibration([1.0, 1.0], [False, False])
    assert bad.ece == 1.0 and bad.brier == 1.0
    nothing = calibration([], [])
    assert (nothing.ece, nothing.brier, nothing.bins) == (None, None, ()), "not 0, which is a perfect critic's"


def test_lengths_must_agree() -> None:
    """Verdicts without their truth are an error."""
    with pytest.raises(OptionError, match="2 said for 1 truth"):
        binary([True, False], [True])
    with pytest.raises(OptionError, match="bins is 0"):
        calibration([0.5], [True], bins=0)
