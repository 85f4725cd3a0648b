"""The size of weights, from what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo_vlac.weight_files import weight_bytes


def test_only_what_can_be_read_counts(tmp_path: Path) -> None:
    """Not a link of a download's cache that leads nowhere, nor a folder; nothing is 0."""
    (tmp_path / "model-1.safetensors").write_bytes(bytes(5))
    (tmp_path / "model-2.safetensors").symlink_to(tmp_path / "gone")
    (tmp_path / "model.bin").mkdir()
    assert weight_bytes(tmp_path) == 5
    assert weight_bytes(tmp_path / "none") == weight_bytes(None) == 0


def test_only_ones_own_home_is_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model.pt").write_bytes(bytes(5))
    assert weight_bytes("~") == 5 and weight_bytes("~nobody-of-this-name") == 0
