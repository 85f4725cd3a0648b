"""The commands on datasets: the same layouts everywhere, frames of the source beside those judged, what was skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

import evo_vlac.swift_engine as swift_engine
from evo_vlac.cli.main import main
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.video import write_video
from tests.evo_vlac.conftest import TASK, picture
from tests.evo_vlac.datasets.lerobot_sets import films3, images3


@pytest.fixture(autouse=True)
def one_model(engine: SwiftEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands load the model once for all tests."""
    monkeypatch.setattr(swift_engine, "SwiftEngine", lambda *_, **__: engine)
    monkeypatch.setattr(engine, "close", lambda: None)


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_critic_of_an_episode(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By number; its own task; frames and seconds of the episode, which was thinned. Without --episode the first."""
    root = films3(tmp_path / "set", 3)
    out = run(capfd, "critic", str(root), "--episode", "2", "--fps", "5", "--skip", "2")
    assert out["source"] == "set/episode_000002" and out["task"] == "lift it"
    assert (out["frames"], out["source_frames"]) == ([0, 2, 3], [0, 4, 5])
    assert out["seconds"] == pytest.approx([0, 0.4, 0.5])
    assert main(["critic", str(root), "--episode", "9"]) == 2
    assert "has no episode 9" in capfd.readouterr().err


def test_frames_of_the_source(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of a film that was thinned, in text too; pictures have no seconds."""
    write_video(tmp_path / "a.mp4", [picture(i) for i in range(9)], 10)
    assert main(["critic", str(tmp_path / "a.mp4"), "--task", TASK, "--fps", "5", "--skip", "4"]) == 0
    text = capfd.readouterr().out
    assert "source frame  second" in text and "8    0.80" in text
    out = run(capfd, "done", str(tmp_path / "a.mp4"), "--task", TASK, "--fps", "2.5")
    assert [image["source_frame"] for image in out["images"]] == [0, 4, 8]
    one = tmp_path / "one.png"
    PILImage.fromarray(picture(0)).save(one)
    for command in ("done", "critic"):
        assert main([command, str(one), "--task", TASK]) == 0
        text = capfd.readouterr().out
        assert not any(word in text for word in ("second", "?", "VOC"))
    assert main(["critic", str(tmp_path / "a.mp4")]) == 2
    assert "no --task is given" in capfd.readouterr().err


def test_screening_keeps_the_results_beside_broken_episodes(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Skipped ones are in the JSON, in the text and in the report, and so are guesses in the JSON."""
    root = images3(tmp_path / "set", [[0], [1]], {"data/file_index": [0, 1]})
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1")
    arguments = ["screen", str(root), "--skip", "3", "--no-reverse", "--tail", "0", "--min-voc", "off"]
    out = run(capfd, *arguments, "--output", str(tmp_path / "out"))
    (row,) = out["trajectories"]
    assert row["source_frames"] == [0, 1, 2, 3] and row["seconds"][3] == 0.3
    assert (row["voc"] is None) == (row["invalid"] > 0), "one pair: no order of an answer that cannot be read"
    assert [one["name"] for one in out["skipped"]] == ["set/episode_000001"] and out["chosen"] == []
    assert "1 cannot be read" in (tmp_path / "out/report.html").read_text()
    assert main(["evaluate", str(root), "--skip", "3", "--no-one-shot"]) == 0
    assert "1 skipped, since they cannot be read:\n  set/episode_000001: " in capfd.readouterr().out
