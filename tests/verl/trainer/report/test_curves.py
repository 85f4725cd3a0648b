"""``curves.png`` of runs that measured little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from PIL import Image
from pytest import MonkeyPatch

from verl.trainer.report.curves import draw_curves


def test_a_panel_without_points_says_so(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    """An evaluation alone has neither reward nor verdicts; null and NaN are no points."""
    said: list[str] = []
    text = Axes.text

    def heard(self: Axes, x: float, y: float, words: str, **how: object) -> object:
        said.append(words)
        return text(self, x, y, words, **how)

    monkeypatch.setattr(Axes, "text", heard)
    rows = [{"val/success": 0.5, "val/steps": 12}, {"train/score": None, "critic/p50_ms": float("nan")}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png", "run")
    assert said == ["not measured in this run"] * 4
    assert np.asarray(Image.open(tmp_path / "curves.png")).std() > 0
