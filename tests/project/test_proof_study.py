"""The proof's study: its search finds what it should with few episodes, and its report has the agreed form."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.launching import ROOT


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("proof_study", ROOT / "studies" / "proof.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_search_ends_on_all_episodes_with_the_best(study: ModuleType) -> None:
    """The last rate is of as many episodes as the figure has, and far fewer are played than by rating all so."""
    every = [study.Shift(d, c, a) for d in range(6) for c in (False, True) for a in study.SHIFTS]
    played: list[int] = []

    def rate(one: object, episodes: int) -> float:
        played.append(episodes)
        return 0.9 if one == study.Shift(2, False, -0.4) else 0.2

    assert study.halve(every, rate, 200) == study.Shift(2, False, -0.4)
    assert played[-1] == 200 and sum(played) < 200 * len(every) / 3


def test_a_search_of_fewer_episodes_than_the_first_round(study: ModuleType) -> None:
    every = [study.Shift(0, False, amount) for amount in (0.1, 0.2, 0.3)]
    assert study.halve(every, lambda one, episodes: one.amount * episodes, 2) == every[2]


def test_episodes_to_the_goal_are_the_first_that_reach_it(study: ModuleType) -> None:
    assert study.episodes_to([(0, 0.3), (64, 0.8), (128, 0.7)]) == 64
    assert study.episodes_to([(0, 0.3), (64, 0.79)]) is None


def test_the_report_tells_each_task_and_method_by_seed(study: ModuleType, tmp_path: Path) -> None:
    shift = {"start": 0.3, "constant_shift": 0.5, "dimension": 2, "while": "open", "amount": -0.4, "episodes": 200}
    (tmp_path / "shift-Lift.json").write_text(json.dumps(shift))
    for seed, last in ((0, 0.9), (1, 0.6)):
        run = tmp_path / "runs" / f"vlac-{seed}"
        run.mkdir(parents=True)
        (run / "summary.json").write_text("{}")
        rows = [
            {"train/episodes": n, "val/success": s, "val/success/0": s, "val/success/1": 0.1}
            for n, s in ((0, 0.3), (200, last))
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = study.results(tmp_path, ["Lift", "LiftRed"])
    assert found["tasks"]["Lift"]["vlac"] == {"success": [0.9, 0.6], "episodes_to_80": [200, None]}
    assert found["tasks"]["Lift"]["start"] == {"success": [0.3], "episodes_to_80": [None]}
    assert found["tasks"]["LiftRed"] == {"vlac": {"success": [0.1, 0.1], "episodes_to_80": [None, None]}}
    assert {"commit", "versions", "date"} <= found.keys()
