"""The learning study's report, of runs that this test made up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.launching import ROOT

SCRIPT = ROOT / "studies" / "learning_study.py"


def finished(folder: Path, name: str, after: float) -> None:
    """What a run leaves of itself: a summary, and metrics with two evaluations."""
    run = folder / name
    run.mkdir(parents=True)
    summary = {
        "success_before": 0.38,
        "success_after": after,
        "eval_states": 100,
        "episodes": 200,
        "wall_s": 180.0,
        "critic_precision": 0.99,
        "critic_recall": float("nan"),
        "confusion": [[1, 0], [0, 1]],
    }
    (run / "summary.json").write_text(json.dumps(summary))
    rows = [
        {"step": 0, "wall_s": 20.0, "train/episodes": 0, "val/success": 0.38},
        {"step": 1, "wall_s": 30.0, "train/episodes": 16, "train/env_success": 0.5},
        {"step": 9, "wall_s": 180.0, "train/episodes": 200, "val/success": after},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(folder: Path, results: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--only", "report", "--folder", str(folder), "--results", str(results)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_report_lists_success_by_arm_and_seed(tmp_path):
    """A list by seed for each arm, with intervals and curves; other folders and unfinished runs are left out."""
    runs, results = tmp_path / "runs", tmp_path / "results"
    for name, after in (("vlac-0", 0.95), ("vlac-1", 0.9), ("simulator-0", 0.93), ("noise-30-0-0", 0.8), ("mine-0", 0)):
        finished(runs, name, after)
    (runs / "vlac-2").mkdir()
    done = report(runs, results)
    assert done.returncode == 0, done.stderr
    found = json.loads((results / "learning.json").read_text())
    assert found["vlac_done_value_success"] == [0.95, 0.9]
    assert found["simulator_done_success"] == [0.93] and found["vlac_done_success"] == []
    first = next(run for run in found["runs"] if run["arm"] == "vlac")
    assert first["curve"][-1] == {"episodes": 200, "wall_s": 180.0, "success": 0.95}
    low, high = first["success_interval_95"]
    assert 0.88 < low < 0.9 and 0.97 < high < 0.99
    assert {run["arm"] for run in found["runs"]} == {"vlac", "simulator", "noise-30-0"}
    assert (results / "learning.png").stat().st_size > 10_000
    assert "VLAC, done + value" in done.stdout


def test_a_folder_without_runs_is_said(tmp_path):
    done = report(tmp_path / "none", tmp_path / "results")
    assert done.returncode == 2 and "no finished run" in done.stderr
