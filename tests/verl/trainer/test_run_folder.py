"""A run's folder that is removed under the run: named as that, and not made again by what ends."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from verl.errors import RunFolderRemovedError
from verl.launch import remains
from verl.trainer.checkpoint import Checkpoints
from verl.trainer.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path), "mine")


def test_a_removed_folder_is_seen_at_the_next_look(folder: RunFolder) -> None:
    folder.look()
    shutil.rmtree(folder.path)
    with pytest.raises(RunFolderRemovedError, match=f"{folder.path} was removed or moved"):
        folder.look()


def test_the_error_of_a_file_names_the_folder_that_is_gone(folder: RunFolder) -> None:
    """A file that was never there is another matter."""
    shutil.rmtree(folder.file("checkpoints"))
    with pytest.raises(FileNotFoundError) as found:
        Checkpoints(folder).save(1, [], {}, {})
    assert str(folder.removed(found.value)).startswith(f"{folder.path}/checkpoints was removed")
    missing = FileNotFoundError(2, "no such file", str(folder.file("logs", "driver.log")))
    assert folder.removed(missing) is None and folder.removed(ValueError()) is None
    assert folder.removed(FileNotFoundError(2, "no such file", "/nowhere/at/all")) is None


def test_rays_logs_are_not_kept_in_a_folder_that_is_gone(folder: RunFolder, tmp_path: Path) -> None:
    session = tmp_path / f"session_2026-01-01_00-00-00_1_{os.getpid()}"
    (session / "logs").mkdir(parents=True)
    shutil.rmtree(folder.path)
    assert remains.remove_session(session, os.getpid(), folder.file("logs", "ray"))
    assert not folder.path.exists()
