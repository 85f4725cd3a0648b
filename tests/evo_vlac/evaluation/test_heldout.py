"""Verdicts against the simulator: frames, episodes and values are counted as training would live them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.engine import Answer, Query, TokenInfo
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.evaluation.evaluator import Judged
from evo_vlac.evaluation.heldout import HeldoutOptions, HeldoutReport, judge_heldout


class Reader:
    """An engine that reads the truth off the pictures: pixel 0 is P(done) in percent, pixel 1 the progress."""

    name = "reader"

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        return [self._one(query) for query in queries]

    def _one(self, query: Query) -> Answer:
        pixels = [np.asarray(image)[0, 0] for image in query.images]
        if query.kind == "done":
            p = float(pixels[0][0]) / 100 if "lift it" in query.prompt else 0.01
            p = min(max(p, 0.01), 0.99)
            top = (("1", math.log(p)), ("0", math.log(1 - p)))
            text = "1" if p > 0.5 else "0"
            return Answer(text, (TokenInfo(text, max(t[1] for t in top), top),))
        a, b = (int(p[1]) for p in pixels)
        return Answer(str(round(100 * (b - a) / max(1, 100 - a))))

    def close(self) -> None:
        """Nothing to free."""


def demo(probabilities: list[int], dones: list[int], kind: str = "success") -> Trajectory:
    frames = np.zeros((len(dones), 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0] = probabilities
    frames[:, 0, 0, 1] = np.linspace(0, 100, len(dones))
    return Trajectory(kind, "lift it", frames, dones=tuple(map(bool, dones)), success=any(dones), kind=kind)


def test_frames_and_episodes() -> None:
    """A hit, an early done, a miss and a true no are counted on both levels; a wrong task is not done."""
    demos = [
        demo([0, 0, 0, 99, 99], [0, 0, 0, 1, 1]),
        demo([0, 99, 0, 0, 99], [0, 0, 1, 1, 1], "early"),
        demo([0, 0, 0, 0, 50], [0, 0, 0, 0, 1], "missed"),
        demo([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], "failure"),
    ]
    report = judge_heldout(Critic(Reader()), demos, HeldoutOptions(skip=1, slack=1))
    frames, episodes = report.frames(), report.by_episode()
    assert (frames.true_positive, frames.false_positive, frames.false_negative) == (3, 1, 3)
    assert (episodes.true_positive, episodes.false_positive, episodes.false_negative, episodes.true_negative) == (
        1,
        1,
        1,
        1,
    )
    assert report.by_episode(slack=1).true_positive == 2
    assert report.delays() == [0]
    table = report.table()
    assert table["voc_success_mean"] == 1.0
    assert table["wrong_task"]["said_done"] == 0 and table["wrong_task"]["asked"] > 0
    assert table["by_kind"]["early"] == {
        "episodes": 1,
        "success": 1,
        "ended": 1,
        "ended_rightly": 0,
        "done_frames": 3,
        "found_frames": 1,
        "false_frames": 1,
    }


def test_an_invalid_answer_is_a_no() -> None:
    """A NaN probability is never a done, at any threshold."""
    episode = Judged("lift it", (float("nan"), 0.95), (True, True))
    report = HeldoutReport(HeldoutOptions(), (episode,))
    assert report.frames(0.0).true_positive == 1
    assert report.table()["invalid"] == 1
    assert episode.first_said(0.9) == 1


def test_what_cannot_be_judged() -> None:
    """No episodes, or none with per-frame success; options out of range."""
    with pytest.raises(DatasetError, match="no trajectories"):
        judge_heldout(Critic(Reader()), [])
    without = Trajectory("x", "lift it", np.zeros((2, 4, 4, 3), np.uint8), success=True)
    with pytest.raises(DatasetError, match="no per-frame success"):
        judge_heldout(Critic(Reader()), [without])
    with pytest.raises(OptionError, match="threshold is 1"):
        HeldoutOptions(threshold=1.0)
    with pytest.raises(OptionError, match="skip is 0"):
        HeldoutOptions(skip=0)
