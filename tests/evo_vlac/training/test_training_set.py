"""Training pairs of any layout; episodes that cannot be read are left out and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evo_vlac.errors import DatasetError
from evo_vlac.training.pairs import PairConfig
from evo_vlac.training.training_set import build_training_set
from tests.evo_vlac.datasets.lerobot_sets import films3, images3


def test_lerobot_becomes_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two datasets, an instruction each; a broken episode is said once, though they are read twice."""
    pictures = images3(tmp_path / "a", [[0], [1]], {"data/file_index": [0, 1]})
    (pictures / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1")
    sets = [pictures, films3(tmp_path / "b", 3)]
    found = build_training_set(sets, tmp_path / "out", PairConfig(count=40), tasks=("lift it", "push it"))
    assert found.episodes == 4 and found.pairs == 40
    assert [one.name for one in found.skipped] == ["a/episode_000001"] and caplog.text.count("is skipped") == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["skipped"][0]["name"] == "a/episode_000001"
    lines = [json.loads(line) for line in found.jsonl.read_text().splitlines()]
    assert all(Path(image).is_file() for line in lines for image in line["images"])


@pytest.mark.parametrize("count", [1, 3])
def test_tasks_are_counted_before_anything_is_read(tmp_path: Path, count: int) -> None:
    """Too few and too many; the datasets are not even there."""
    config = PairConfig(label_free=True)
    with pytest.raises(DatasetError, match=f"{count} tasks for 2 datasets"):
        build_training_set([tmp_path / "a"], tmp_path, config, tasks=["lift it"] * count, play=[tmp_path / "b"])
