"""The home folder where no shell put it; folders called ``~name``; what systems leave in folders of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evo_vlac.abilities import Abilities
from evo_vlac.datasets import open_dataset
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.datasets.trajectory import Trajectory
from evo_vlac.images import load_image
from evo_vlac.outputs import write_text
from evo_vlac.video import read_video, write_video
from tests.evo_vlac.datasets.lerobot_sets import images3

FRAMES = [np.full((16, 16, 3), i * 40, np.uint8) for i in range(4)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_home_is_found_by_every_reader_and_writer(home: Path) -> None:
    """In quotes, in a YAML and after ``--output=`` no shell replaces the ``~``."""
    write_video("~/a.mp4", FRAMES, 5)
    write_text("~/task.txt", "lift it")
    Image.fromarray(FRAMES[0]).save(home / "a.png")
    (home / "trained_for.json").write_text('["done"]')
    assert {path.name for path in home.iterdir()} == {"a.mp4", "a.png", "task.txt", "trained_for.json", "work"}
    assert len(read_video("~/a.mp4")) == 4 and len(read_video("~/")) == 1 and load_image("~/a.png").size == (16, 16)
    assert [t.name for t in open_dataset("~", format="folder")] == ["a.mp4"] and Abilities.of("~").kinds == {"done"}


def test_a_name_that_begins_with_a_tilde_is_a_name(home: Path) -> None:
    """Not the home of a user who is called so, and no error where there is none."""
    write_video("~backup/a.mp4", FRAMES, 5)
    assert (home / "work/~backup/a.mp4").is_file() and len(read_video("~backup/a.mp4")) == 4
    write_text("~backup/task.txt", "lift it")
    assert [t.name for t in open_dataset("~backup")] == ["a.mp4"]
    images3(home / "work/~daemon", [[0, 1]])
    assert len(list(open_dataset("~daemon"))) == 2


@pytest.mark.parametrize(
    "folder", [".Trash-1000/files", ".ipynb_checkpoints", "$RECYCLE.BIN/S-1-5", "__MACOSX", "lost+found", "@eaDir/x"]
)
def test_what_systems_leave_is_no_data(folder: str, home: Path) -> None:
    """A demonstration that was deleted on a drive does not come back from its bin."""
    for path in ("set/a.h5", f"set/{folder}/old.h5"):
        with Hdf5Writer(Path(path), "x", "lift it") as writer:
            writer.write(Trajectory("x", "lift it", FRAMES))
    assert [t.name for t in open_dataset("set")] == ["a/demo_0"]
    root = images3(Path("robot"), [[0, 1]])
    stale = root / "data" / folder / "file-000.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes((root / "data/chunk-000/file-000.parquet").read_bytes())
    (root / "meta/episodes" / folder).mkdir(parents=True)
    (root / "meta/episodes" / folder / "file-000.parquet").write_bytes(b"PAR1")
    dataset = open_dataset(root)
    assert [len(t) for t in dataset] == [4, 4] and not dataset.skipped
