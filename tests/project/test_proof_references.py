"""References of the proof: what a sidecar would read of them, and what the last values are worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from evo_vlac.critic import REF_NUM, Critic
from sidecar.config import ReferenceConfig
from sidecar.reference import load_reference
from studies import proof_references


def test_each_task_has_a_reference_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a sidecar reads the folder: six pictures for each instruction, from the first to the last of its film."""

    def read(files: list[Path]) -> list[Any]:
        task = files[0].name.partition("-")[0]
        first = len(task)  # another picture for each task
        frames = np.stack([np.full((8, 8, 3), 10 * first + number, np.uint8) for number in range(9)])
        return [SimpleNamespace(frames=frames, task=f"do {task}")]

    monkeypatch.setattr(proof_references, "read_demonstrations", read)
    proof_references.references(argparse.Namespace(work=tmp_path))
    shown = load_reference(ReferenceConfig(folder=str(tmp_path / "references")))
    for task in proof_references.WORLD.tasks:
        pictures = [int(np.asarray(shown.pictures[number])[0, 0, 0]) for number in shown.of(f"do {task}")]
        assert len(pictures) == REF_NUM
        assert (pictures[0], pictures[-1]) == (10 * len(task), 10 * len(task) + 8)
    assert not shown.of("another task")


def test_a_value_that_tells_success_from_failure_has_an_auc_of_one() -> None:
    """Of four episodes the two successes end higher; with equal values nothing is told."""

    def judging(values: dict[str, float]) -> Critic:
        def trajectory(frames: list[str], task: str, **_: Any) -> Any:
            return SimpleNamespace(reward=values[task], voc=1.0, invalid=0)

        return cast(Critic, SimpleNamespace(trajectory=trajectory))

    played = cast(Any, [SimpleNamespace(frames="ab", task=name, success=name < "c") for name in "abcd"])
    told = proof_references.told(judging({"a": 0.9, "b": 0.7, "c": 0.6, "d": 0.1}), played, played, ())
    assert (told["auc"], told["n"], told["voc"]) == (1.0, [2, 2], 1.0)
    assert told["success"] == pytest.approx(0.8) and told["failure"] == pytest.approx(0.35)
    assert proof_references.told(judging(dict.fromkeys("abcd", 0.5)), played, played, ())["auc"] == 0.5
