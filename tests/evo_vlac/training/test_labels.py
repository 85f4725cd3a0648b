"""Labels: the paper's formulas, and what follows from them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_vlac.datasets.trajectory import Outline
from evo_vlac.errors import OptionError
from evo_vlac.training.labels import critic_label, done_labels, state_answer
from evo_vlac.values import critic_to_values


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_critics_of_neighbours_add_up_to_the_whole(end: int, data: st.DataObject) -> None:
    """Chained by the value formula, the labels of consecutive pairs reach 100 % at the end, within rounding."""
    cuts = sorted(data.draw(st.sets(st.integers(0, end), max_size=8)) | {0, end})
    labels = [critic_label(a, b, end) for a, b in itertools.pairwise(cuts)]
    values = critic_to_values(labels)
    assert values[-1] == pytest.approx(100)
    assert all(0 <= label <= 100 for label in labels)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 120), st.integers(1, 100))
def test_a_reversed_pair_has_the_negative_label(i: int, j: int, end: int) -> None:
    """label(j, i) = -label(i, j); equal frames and frames after the end are stagnation."""
    assert critic_label(j, i, end) == -critic_label(i, j, end)
    assert critic_label(i, i, end) == 0
    assert critic_label(end, end + 7, end) == 0


def test_critic_label_is_the_papers_formula() -> None:
    """c = dt / (T - i): from 10 to 20 of 50, a quarter of what remained."""
    assert critic_label(10, 20, 50) == 25
    with pytest.raises(OptionError, match="end is 0"):
        critic_label(0, 1, 0)


def test_done_labels_by_the_paper_and_by_the_simulator() -> None:
    """0 before 0.8 T, 1 after 0.95 T, nothing between; per-frame flags win where there are any."""
    by_paper = done_labels(Outline("d", "t", 101, None, True))
    assert by_paper[:80] == [0] * 80 and by_paper[80:96] == [None] * 16 and by_paper[96:] == [1] * 5
    assert done_labels(Outline("d", "t", 4, None, False)) == [0] * 4
    assert done_labels(Outline("d", "t", 5, (False, False, False, True, True), True)) == [0, 0, 0, 1, 1]


def test_states_are_millimetres_of_fixed_width() -> None:
    """x and y from half a metre behind and beside the origin, z, and the fingers' distance; only where it is known."""
    assert state_answer([-0.1, 0.02, 0.896, 3.1, 0, 0, 0.02, -0.021]) == "0400 0520 0896 0041"
