"""A file is whole or not there; JSON is JSON."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from evo_vlac.errors import OutputError
from evo_vlac.outputs import plain, to_json, whole_file, write_json, write_text


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """The old file stays as it was; no temporary file stays."""
    target = write_text(tmp_path / "deep" / "a.txt", "old")
    with pytest.raises(RuntimeError), whole_file(target) as partial:
        partial.write_text("new, half")
        raise RuntimeError
    assert target.read_text() == "old" and list(target.parent.iterdir()) == [target]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    """A file as a folder; a folder as a file."""
    write_text(tmp_path / "a", "x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "a" / "b", "x")
    with pytest.raises(OutputError, match="is a folder"):
        write_text(tmp_path, "x")


def test_a_full_disk_is_told_with_the_files_own_name(tmp_path: Path) -> None:
    """The temporary name says nothing to anybody; other errors of the block are the block's."""
    with pytest.raises(OutputError, match=r"/a\.mp4 cannot be written: No space left on device"):
        with whole_file(tmp_path / "a.mp4") as partial:
            raise OSError(errno.ENOSPC, "No space left on device", str(partial))
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.mp4"):
        open(tmp_path / "input").close()
    assert list(tmp_path.iterdir()) == []


def test_files_have_ordinary_rights(tmp_path: Path) -> None:
    """Others may read what was written."""
    assert write_text(tmp_path / "a", "x").stat().st_mode & 0o044 == 0o044


@dataclass
class Thing:
    a: float
    b: tuple[int, ...]


def test_json_of_anything(tmp_path: Path) -> None:
    """Dataclasses, numpy, paths; NaN is null, since JSON has none."""
    value = {"x": Thing(math.nan, (1,)), 2: np.float32(0.5), "p": tmp_path, "n": None, "t": True, "a": np.arange(2)}
    loaded = json.loads(write_json(tmp_path / "a.json", value).read_text())
    assert loaded == {
        "x": {"a": None, "b": [1]},
        "2": 0.5,
        "p": str(tmp_path),
        "n": None,
        "t": True,
        "a": [0, 1],
    }
    assert "ü" in to_json("ü") and plain([math.inf]) == [None]
