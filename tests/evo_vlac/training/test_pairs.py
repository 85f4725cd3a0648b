"""Pairs: labels by the paper, shares as configured, the same draw for the same seed."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from evo_vlac.datasets.trajectory import Outline
from evo_vlac.engine import Answer
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.parsing import parse_critic
from evo_vlac.training.labels import critic_label
from evo_vlac.training.pairs import KINDS, PairConfig, PairSampler, Shares


def outline(length: int = 40, done_from: int | None = 30, kind: str = "success", task: str = "lift it") -> Outline:
    dones = tuple(done_from is not None and i >= done_from for i in range(length))
    return Outline(kind, task, length, dones, done_from is not None, kind)


DEMOS = [outline(), outline(50, None, "failure"), outline(45, None, "idle"), outline(60, 20, task="stack it")]


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
        if pair.kind == "failed":
            assert not any(demo.dones) and pair.frames[0] < pair.frames[1] >= demo.length // 2
        if pair.kind.endswith("wrong_task"):
            assert pair.task != demo.task
        if pair.kind == "stagnant" and demo.kind != "idle":
            i, j = pair.frames
            assert i == j or (demo.dones[i] and demo.dones[j])


def test_shares_and_seed() -> None:
    """Kinds come in their shares; the same seed draws the same pairs, another seed others."""
    shares = Shares(
        done=0.5, done_wrong_task=0, critic=0.5, reversed=0, stagnant=0, critic_wrong_task=0, failed=0, describe=0
    )
    config = PairConfig(count=2000, shares=shares)
    pairs = PairSampler(DEMOS, config).draw()
    counts = Counter(pair.kind for pair in pairs)
    assert set(counts) == {"done", "critic"} and abs(counts["done"] - 1000) < 120
    assert PairSampler(DEMOS, config).draw() == pairs
    assert PairSampler(DEMOS, PairConfig(count=2000, shares=shares, seed=1)).draw() != pairs


def test_near_positives_are_the_first_done_frames() -> None:
    """With all positives near, only the first frames of success are shown as done."""
    shares = Shares(done=1, **dict.fromkeys(set(KINDS) - {"done"}, 0))
    config = PairConfig(count=400, shares=shares, positives=1.0, near_positives=1.0, near_frames=3)
    end = DEMOS[0].end
    assert end is not None
    pairs = [p for p in PairSampler(DEMOS, config).draw() if p.answer == "1" and p.demo == 0]
    assert pairs and {p.frames[0] for p in pairs} <= {end, end + 1, end + 2}


def test_references_and_thoughts() -> None:
    """One-shot pairs show another success of the same task from start to end; a thought names both progresses."""
    twins = [outline(), outline(50, 40), outline(60, 20, task="stack it")]
    config = PairConfig(count=300, shares=Shares(*[0] * 8, reference=1, think=1))
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


def test_states_only_where_known() -> None:
    """State questions come from episodes with proprioception alone."""
    known = dataclasses.replace(outline(), proprio=np.zeros((40, 8), np.float32))
    pairs = PairSampler([known, outline()], PairConfig(count=200, shares=Shares(*[0] * 8, state=1))).draw()
    assert {(p.kind, p.demo, p.answer) for p in pairs} == {("state", 0, "0500 0500 0000 0000")}


def test_failures_alone() -> None:
    """Without a success there are no progress pairs, but done, stagnation and wrong-task questions remain."""
    kinds = {pair.kind for pair in PairSampler([DEMOS[1], DEMOS[2]], PairConfig(count=500)).draw()}
    assert kinds == set(KINDS) - {"critic", "reversed", "describe", "reference", "think", "state"}


def test_what_is_refused() -> None:
    """Bad options name themselves; nothing to draw from is an error."""
    with pytest.raises(DatasetError, match="no trajectories"):
        PairSampler([], PairConfig())
    only = Shares(
        done=0, done_wrong_task=0, critic=1, reversed=0, stagnant=0, critic_wrong_task=0, failed=0, describe=0
    )
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
        Shares(*[0] * 8)
