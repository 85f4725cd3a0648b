"""The paper's table and done against the truth, on trajectories whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evo_vlac.critic import Critic
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.evaluation.evaluator import EvaluationOptions
from evo_vlac.evaluation.figures import ALL, evaluate
from tests.evo_vlac.conftest import ChosenEngine
from tests.evo_vlac.evaluation.test_screening import FAILED, GOOD, HESITANT, reply

DONES = tuple(level >= 95 for level in range(0, 101, 5))
FLAGGED = replace(GOOD, dones=DONES, success=True)
SET = [FLAGGED, replace(HESITANT, success=True), replace(FAILED, success=False), replace(GOOD, name="g2", task="other")]


def test_a_perfect_critic_gets_perfect_figures() -> None:
    """By task and over all; failures count for done only; one-shot leaves the reference out."""
    found = evaluate(Critic(ChosenEngine(reply)), SET, EvaluationOptions(skip=1, mode=True))
    assert found.zero_shot[GOOD.task].trajectories == 2 and found.zero_shot["other"].voc == 1.0
    assert found.zero_shot[ALL].trajectories == 3 and found.one_shot[ALL].trajectories == 1
    assert 0.9 < found.zero_shot[ALL].voc_f1 <= 1.0
    frame, whole = found.done["frame"], found.done["trajectory"]
    assert frame.counts.total == len(DONES) and frame.counts.f1 == 1.0 and frame.calibration.brier == 0.0
    assert whole.counts.total == 3 and whole.counts.accuracy == 1.0


def test_order_is_judged_up_to_the_success() -> None:
    """What happens after the success does not count against the critic."""
    long = replace(GOOD, frames=[*GOOD.frames, *GOOD.frames[::-1]], dones=(*DONES, *DONES[::-1]), success=True)
    found = evaluate(Critic(ChosenEngine(reply)), [long], EvaluationOptions(skip=1, mode=True))
    assert found.zero_shot[ALL].voc == 1.0 and found.one_shot == {}


def test_every_and_failures() -> None:
    """Fewer frames asked; failures scored where wanted."""
    found = evaluate(
        Critic(ChosenEngine(reply)), SET, EvaluationOptions(skip=1, mode=True, every=10, failures=True, one_shot=False)
    )
    assert found.done["frame"].counts.total == 3 and found.zero_shot[ALL].trajectories == 4 and not found.one_shot


def test_unreadable_done_is_not_done() -> None:
    """Counted, and left out of the calibration."""
    found = evaluate(Critic(ChosenEngine(lambda _: "hm")), [FLAGGED], EvaluationOptions(one_shot=False))
    frame = found.done["frame"]
    assert frame.invalid == len(DONES) and frame.counts.recall == 0.0 and frame.calibration.bins == ()
    assert found.as_dict()["done"]["frame"]["recall"] == 0.0


def test_nothing_to_evaluate_is_an_error() -> None:
    """An empty dataset; impossible options."""
    with pytest.raises(DatasetError, match="no trajectories"):
        evaluate(Critic(ChosenEngine(reply)), [])
    for options in ({"skip": 0}, {"every": 0}, {"threshold": 1.0}):
        with pytest.raises(OptionError):
            EvaluationOptions(**options)  # type: ignore[arg-type]


def test_progress_is_told() -> None:
    """Once per trajectory."""
    heard: list[int] = []
    evaluate(Critic(ChosenEngine(reply)), SET, EvaluationOptions(skip=5), heard.append)
    assert heard == [1, 2, 3, 4]
