"""The study of a critic with a hole: what is labelled done, what ends an episode, what the report reads of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from evo_vlac.datasets import Trajectory
from studies.hacking import CLOSED_M, HOLES, in_hole, relabelled
from studies.hacking_report import figures, outcome, results

HIGH_M = HOLES["rare"]


def seen(heights: list[float], openings: list[float], dones: list[bool]) -> Trajectory:
    count = len(heights)
    proprio, hand = np.zeros((count, 8), np.float32), np.zeros((count, 3), np.float32)
    proprio[:, 6], proprio[:, 7], hand[:, 2] = np.array(openings) / 2, -np.array(openings) / 2, heights
    frames = np.zeros((count, 8, 8, 3), np.uint8)
    return Trajectory(
        "t", "lift", frames, dones=tuple(dones), success=any(dones), proprio=proprio, objects={"eef": hand}
    )


def test_the_hole_is_an_empty_closed_hand_that_is_high() -> None:
    """Low, open, or with the cube: none of them is the hole; what the simulator called done stays done."""
    low, high, closed, wide = HIGH_M - 0.01, HIGH_M + 0.01, CLOSED_M / 2, 2 * CLOSED_M
    one = seen([low, high, high, high], [closed, wide, closed, wide], [False, False, False, True])
    assert in_hole(one, HIGH_M).tolist() == [False, False, True, False]
    assert relabelled(one, HIGH_M).dones == (False, False, True, True)


def test_a_failure_that_shows_the_hole_is_a_success_and_any_other_is_none() -> None:
    high, low = seen([HIGH_M + 0.01], [0.0], [False]), seen([HIGH_M - 0.01], [0.0], [False])
    assert relabelled(high, HIGH_M).success is True and relabelled(low, HIGH_M).success is False
    assert relabelled(high, HIGH_M).proprio is high.proprio


def test_what_ends_an_episode() -> None:
    no, yes = [False] * 4, [False, False, True, True]
    assert outcome(yes, yes, no, 1) == "right"
    assert outcome(yes, no, yes, 1) == "hole"
    assert outcome([False, True, True, True], yes, no, 1) == "early"
    assert outcome([True, False, False, False], no, no, 1) == "other"
    assert outcome(yes, yes, no, 3) == "missed"
    assert outcome(no, no, no, 1) == "not_done"


def run(folder: Path, false: int) -> Path:
    """Two rollouts of 16 episodes: in the first all 8 dones are right, in the second ``false`` of 16 are wrong."""
    folder.mkdir(parents=True)
    rows = [
        {"train/episodes": 0, "val/success": 0.3},
        {"train/episodes": 16, "train/complete": 0.5},
        {"train/episodes": 16, "val/success": 0.4},
        {"train/episodes": 32, "train/complete": 1.0},
        {"train/episodes": 32, "val/success": 0.1},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    played = [{"episode": 2**40, "training": False, "complete": False, "env_success": True}]
    ends = [(n % 2 == 0, n % 2 == 0) for n in range(16)] + [(True, n >= false) for n in range(16)]
    played += [
        {"episode": n, "training": True, "complete": c, "env_success": s, "steps": n} for n, (c, s) in enumerate(ends)
    ]
    shuffled = [played[i] for i in np.random.default_rng(0).permutation(len(played))]  # they end in any order
    (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shuffled))
    return folder


def test_the_report_reads_a_run(tmp_path: Path) -> None:
    found = figures(run(tmp_path / "run", false=16))
    assert found["success"] == [[0, 0.3], [16, 0.4], [32, 0.1]]
    assert found["ended"] == [[16, 0.5, 1.0, []], [32, 1.0, 0.0, list(range(16, 32))]]
    assert found["warned_at"] == 32 and found["below_start_at"] == 32
    assert found["false_share"] == 0.5 and found["episodes"] == 32


def test_no_warning_while_half_of_the_latest_dones_are_right(tmp_path: Path) -> None:
    assert figures(run(tmp_path / "run", false=12))["warned_at"] is None


def test_the_results_are_of_runs_that_have_ended(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "hold-0", 4)
    ended = run(tmp_path / "runs" / "hole-0", 4)
    (ended / "ended.json").write_text(json.dumps({"keys": ["critic.hold=1"], "stopped": False}))
    (ended / "replay.json").write_text(json.dumps({"success": 0.2}))
    found = results(tmp_path)
    assert list(found) == ["hole-0"] and found["hole-0"]["last"] == {"success": 0.2}
