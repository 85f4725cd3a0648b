"""``models/NAME`` is found wherever the project lies; everything else stays what it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from evo_vlac import shipped_models
from evo_vlac.shipped_models import model_folder

ROOT = Path(__file__).parents[2]


def test_a_shipped_model_is_found_from_another_folder(tmp_path, monkeypatch):
    """The checkout's, where there is one; a folder of the same name in the working folder goes first."""
    monkeypatch.chdir(tmp_path)
    assert model_folder("models/vlac-tiny") == str(ROOT / "models" / "vlac-tiny")
    (tmp_path / "models" / "vlac-tiny").mkdir(parents=True)
    assert model_folder("models/vlac-tiny") == "models/vlac-tiny"


@pytest.mark.parametrize(
    "name", ["", "models", "models/none", "models/a/b", "InternRobotics/VLAC", "/models/vlac-tiny"]
)
def test_everything_else_stays(tmp_path, monkeypatch, name):
    """A hub's name, an absolute path, nothing: for the caller to use or to refuse."""
    monkeypatch.chdir(tmp_path)
    assert model_folder(name) == name


def test_an_installed_one_is_found_by_the_record_of_files(tmp_path, monkeypatch):
    """Installed, there is no checkout beside the package: the wheel's record says where its data went."""
    share = tmp_path / "share" / "vlac-rl" / "models" / "vlac-tiny"
    share.mkdir(parents=True)
    record = SimpleNamespace(parts=("..", "share", "vlac-rl", "models", "vlac-tiny", "config.json"))
    record.locate = lambda: share / "config.json"
    monkeypatch.setattr(shipped_models, "__file__", str(tmp_path / "site" / "evo_vlac" / "shipped_models.py"))
    monkeypatch.setattr(shipped_models.metadata, "files", lambda name: [record])
    monkeypatch.chdir(tmp_path)
    assert model_folder("models/vlac-tiny") == str(share)
