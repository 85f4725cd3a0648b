"""The proof's learning curves: what lies in a folder is drawn, and a folder without trainings is said to have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studies.proof_picture import draw


def test_every_ended_training_is_drawn(tmp_path: Path) -> None:
    """One that has not ended has no summary, and an arm of another study no colour: neither is drawn."""
    for name in ("vlac-0", "simulator-0", "shuffled-0", "plain-0"):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "curve.json").write_text(json.dumps({"Lift": [[0, 0.1], [64, 0.9]], "Slide": [[0, 0.0], [64, 0.2]]}))
        if name != "shuffled-0":
            (run / "summary.json").write_text("{}")
    (tmp_path / "runs" / "vlac-0" / "rated.json").write_text(json.dumps({"Lift": 0.8}))
    assert draw(tmp_path, ["Lift", "Slide"], tmp_path / "curves.png") == 2
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_folder_without_trainings_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no training"):
        draw(tmp_path, ["Lift"], tmp_path / "curves.png")
