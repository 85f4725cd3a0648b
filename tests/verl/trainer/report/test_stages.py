"""The table of stages: a column for every stage of any run, a row for every run."""

from __future__ import annotations

import json

from verl.trainer.report.stages import main


def test_runs_with_different_stages_share_a_table(tmp_path, capsys):
    """A stage that a run did not have is 0 there; a folder or its summary may be named."""
    first = {"run_id": "a", "wall_s": 12.34, "time_s": {"start": 1.0}, "episode_s": {"reset": 0.5}}
    second = {"run_id": "b", "wall_s": 5, "time_s": {"start": 2, "update": 3.21}, "episode_s": {"policy_wait": 1}}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text(json.dumps(first))
    (tmp_path / "b.json").write_text(json.dumps(second))
    assert main([str(tmp_path / "a"), str(tmp_path / "b.json")]) == 0
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["run", "wall, s", "start", "update", "episode: reset", "episode: policy wait"]
    assert rows[2:] == [["a", "12", "1.0", "0.0", "0.50", "0.00"], ["b", "5", "2.0", "3.2", "0.00", "1.00"]]


def test_a_run_without_a_summary_is_one_line(tmp_path, capsys):
    """Exit code 2, the path in the message."""
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path / "summary.json") in capsys.readouterr().err
