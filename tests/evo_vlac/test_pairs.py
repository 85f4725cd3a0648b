"""Pairs: labels by the paper, shares as configured, the same draw for the same seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_vlac.demos import Outline
from evo_vlac.engine import Answer
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.pairs import KINDS, PairConfig, PairSampler, Shares, critic_label, done_labels, state_answer
from evo_vlac.parsing import parse_critic
from evo_vlac.values import critic_to_values


def outline(length: int = 40, done_from: int | None = 30, kind: str = "success", task: str = "lift it") -> Outline:
    dones = np.zeros(length, bool)
    if done_from is not None:
        dones[done_from:] = True
    return Outline(kind, task, length, dones, done_from is not None, kind)


DEMOS = [outline(), outline(50, None, "failure"), outline(45, None, "idle"), outline(60, 20, task="stack it")]


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
    """label(j, i) = -label(i, j); equal frames and frames behind the end are stagnation."""
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
    config = PairConfig()
    by_paper = done_labels(Outline("d", "t", 101, None, True), config)
    assert by_paper[:80] == [0] * 80 and by_paper[80:96] == [None] * 16 and by_paper[96:] == [1] * 5
    assert done_labels(Outline("d", "t", 4, None, False), config) == [0] * 4
    assert done_labels(outline(5, 3), config) == [0, 0, 0, 1, 1]


def test_every_pair_is_labelled_by_its_rule() -> None:
    """Each drawn pair has frames inside its episode and the answer its kind demands."""
    for pair in PairSampler(DEMOS, PairConfig(count=3000)).draw():
        demo = DEMOS[pair.demo]
        assert all(0 <= f < demo.length for f in pair.frames)
        assert demo.dones is not None
        if pair.kind == "done":
            assert pair.answer == str(int(demo.dones[pair.frames[0]])) and pair.task == demo.task
        elif pair.kind in ("critic", "reversed"):
            assert demo.end is not None
            assert pair.answer == str(critic_label(*pair.frames, demo.end)) != "0"
            assert (int(pair.answer) > 0) == (pair.kind == "critic")
        elif pair.kind == "describe":
            assert pair.answer == f"{demo.task} </task>"
        else:
            assert pair.answer == "0"
        if pair.kind.endswith("wrong_task"):
            assert pair.task != demo.task
        if pair.kind == "stagnant" and demo.kind != "idle":
            i, j = pair.frames
            assert i == j or (demo.dones[i] and demo.dones[j])


def test_shares_and_seed() -> None:
    """Kinds come in their shares; the same seed draws the same pairs, another seed others."""
    shares = Shares(done=0.5, done_wrong_task=0, critic=0.5, reversed=0, stagnant=0, critic_wrong_task=0, describe=0)
    config = PairConfig(count=2000, shares=shares)
    pairs = PairSampler(DEMOS, config).draw()
    counts = Counter(pair.kind for pair in pairs)
    assert set(counts) == {"done", "critic"} and abs(counts["done"] - 1000) < 120
    assert PairSampler(DEMOS, config).draw() == pairs
    assert PairSampler(DEMOS, PairConfig(count=2000, shares=shares, seed=1)).draw() != pairs


def test_references_and_thoughts() -> None:
    """One-shot pairs show another success of the same task from start to end; a thought names both progresses."""
    twins = [outline(), outline(50, 40), outline(60, 20, task="stack it")]
    config = PairConfig(count=300, shares=Shares(0, 0, 0, 0, 0, 0, 0, 0, reference=1, think=1))
    for pair in PairSampler(twins, config).draw():
        end, other = twins[pair.demo].end, twins[pair.reference_demo].end
        assert end and other and twins[pair.reference_demo].task == pair.task
        assert pair.reference[0] == 0 and pair.reference[-1] == other and 2 <= len(pair.reference) <= 6
        assert pair.demo != pair.reference_demo or pair.task == "stack it"
        label = str(critic_label(*pair.frames[1:], end))
        assert pair.frames[0] == 0 and pair.answer.endswith(label)
        if pair.kind == "think":
            read = parse_critic(Answer(pair.answer), think=True)
            assert read.valid and read.value == int(label)
            assert read.after == round(100 * min(pair.frames[2], end) / end)


def test_states_are_millimetres_of_fixed_width() -> None:
    """x and y from half a metre behind and beside the origin, z, and the fingers' distance; only where it is known."""
    assert state_answer([-0.1, 0.02, 0.896, 3.1, 0, 0, 0.02, -0.021]) == "0400 0520 0896 0041"
    known = dataclasses.replace(outline(), proprio=np.zeros((40, 8), np.float32))
    pairs = PairSampler([known, outline()], PairConfig(count=200, shares=Shares(0, 0, 0, 0, 0, 0, 0, state=1))).draw()
    assert {(p.kind, p.demo, p.answer) for p in pairs} == {("state", 0, "0500 0500 0000 0000")}


def test_failures_alone() -> None:
    """Without a success there are no progress pairs, but done, stagnation and wrong-task questions remain."""
    kinds = {pair.kind for pair in PairSampler([DEMOS[1], DEMOS[2]], PairConfig(count=500)).draw()}
    assert kinds == set(KINDS) - {"critic", "reversed", "describe", "reference", "think", "state"}


def test_what_is_refused() -> None:
    """Bad options name themselves; nothing to draw from is an error."""
    with pytest.raises(DatasetError, match="no trajectories"):
        PairSampler([], PairConfig())
    only = Shares(done=0, done_wrong_task=0, critic=1, reversed=0, stagnant=0, critic_wrong_task=0, describe=0)
    with pytest.raises(DatasetError, match="none of the kinds"):
        PairSampler([DEMOS[1]], PairConfig(shares=only)).draw()
    for change, message in (
        ({"count": 0}, "count is 0"),
        ({"done_before": 0.99}, "done_before is 0.99"),
        ({"positives": 1.5}, "positives is 1.5"),
        ({"near_frames": 0}, "near_frames is 0"),
    ):
        with pytest.raises(OptionError, match=message):
            PairConfig(**change)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"shares\.critic is -1"):
        Shares(critic=-1)
    with pytest.raises(OptionError, match="all shares are 0"):
        Shares(0, 0, 0, 0, 0, 0, 0, 0)
