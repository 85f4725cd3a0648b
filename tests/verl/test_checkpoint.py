"""Checkpoints on disk: whole or not at all, the right ones kept and found. Learners are stand-ins that write a file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

from verl.errors import ConfigError, RunFailedError
from verl.trainer.checkpoint import Checkpoints, find_checkpoint, rewind
from verl.trainer.load_config import load_config
from verl.trainer.run_folder import RunFolder

ARRAYS = {"latencies_us": np.arange(3)}


class FakeLearner:
    """Calls come back at once, as ``ray.get`` is told to pass them through; ``result`` is what :meth:`written` says."""

    def __init__(self, result: bool | Exception = True) -> None:
        self.result = result
        self.save, self.written = SimpleNamespace(remote=self._save), SimpleNamespace(remote=self._written)

    def _save(self, folder: str) -> None:
        dcp.save({"weights": torch.arange(3)}, checkpoint_id=Path(folder) / "learner", no_dist=True)

    def _written(self) -> bool:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    monkeypatch.setattr("ray.get", lambda answers, timeout=None: answers)
    monkeypatch.setattr("ray.wait", lambda answers, num_returns, timeout: (answers, []))


@pytest.fixture
def folder(tmp_path):
    return RunFolder(str(tmp_path), "run")


def steps(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.file("checkpoints").iterdir() if path.name.startswith("step-"))


def trainer(**changes):
    return dataclasses.replace(load_config([])[0].trainer, **changes)


def test_the_last_and_the_best_are_kept(folder):
    checkpoints = Checkpoints(folder)
    for step in range(1, 6):
        checkpoints.save(step, [FakeLearner()], {"updates": step}, ARRAYS)
        if step == 2:
            checkpoints.mark_best(step)  # while it is being written
    checkpoints.wait()
    root = folder.file("checkpoints")
    assert steps(folder) == ["step-2", "step-5"]
    assert (root / "last").resolve().name == "step-5" and (root / "best").resolve().name == "step-2"
    assert json.loads((root / "last" / "trainer.json").read_text())["updates"] == 5
    checkpoints.mark_best(5)
    assert steps(folder) == ["step-5"] and (root / "best").resolve().name == "step-5"
    assert sorted(path.name for path in root.iterdir()) == ["best", "last", "step-5"]


def test_more_are_kept_when_asked(folder):
    checkpoints = Checkpoints(folder, keep=3)
    for step in range(1, 6):
        checkpoints.save(step, [FakeLearner()], {"updates": step}, ARRAYS)
    checkpoints.wait()
    assert steps(folder) == ["step-3", "step-4", "step-5"]


def test_a_crash_in_the_middle_leaves_the_one_before(folder):
    """The second is never completed: it is not found, and the next start removes its traces."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, [FakeLearner()], {"updates": 1}, ARRAYS)
    checkpoints.wait()
    shutil.copytree(folder.file("checkpoints", "step-1"), folder.file("checkpoints", ".part-2"))
    assert find_checkpoint(trainer(resume_mode="auto"), folder) == folder.file("checkpoints", "step-1")
    Checkpoints(folder)
    assert not folder.file("checkpoints", ".part-2").exists() and steps(folder) == ["step-1"]


def test_a_link_that_was_lost_is_not_needed(folder):
    checkpoints = Checkpoints(folder, keep=2)
    for step in (9, 10):
        checkpoints.save(step, [FakeLearner()], {"updates": step}, ARRAYS)
    checkpoints.wait()
    folder.file("checkpoints", "last").unlink()
    assert find_checkpoint(trainer(resume_mode="auto"), folder) == folder.file("checkpoints", "step-10")


def test_what_goes_wrong_in_the_background_is_raised(folder):
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, [FakeLearner(OSError("disk full"))], {}, ARRAYS)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.wait()
    assert steps(folder) == []


def test_shards_that_another_node_kept_are_missed_at_once(folder):
    """A folder that the nodes do not share: the checkpoint is not made, and the key to change is named."""
    learner = FakeLearner()
    checkpoints = Checkpoints(folder)

    def elsewhere(path: str) -> None:
        learner._save(path)
        next((Path(path) / "learner").glob("*.distcp")).unlink()

    learner.save = SimpleNamespace(remote=elsewhere)
    checkpoints.save(1, [learner], {}, ARRAYS)
    with pytest.raises(RunFailedError, match=r"distcp is not here.*trainer\.default_local_dir"):
        checkpoints.wait()
    assert steps(folder) == []


def test_the_modes_of_resuming(folder, tmp_path):
    """``auto`` without a checkpoint and ``disable`` start fresh; a path must be a checkpoint."""
    assert find_checkpoint(trainer(resume_mode="auto"), folder) is None
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, [FakeLearner()], {"updates": 1}, ARRAYS)
    checkpoints.wait()
    assert find_checkpoint(trainer(resume_mode="disable"), folder) is None
    last = folder.file("checkpoints", "last")
    named = trainer(resume_mode="resume_path", resume_from_path=str(last))
    assert find_checkpoint(named, RunFolder(str(tmp_path), "other")) == last.resolve()
    with pytest.raises(ConfigError, match="not a checkpoint folder"):
        find_checkpoint(trainer(resume_mode="resume_path", resume_from_path=str(tmp_path)), folder)
    with pytest.raises(ConfigError, match="resume_from_path"):
        trainer(resume_mode="resume_path")
    with pytest.raises(ConfigError, match="resume_from_path"):
        trainer(resume_mode="auto", resume_from_path=str(last))


def test_logs_are_cut_back_to_the_checkpoint(folder, tmp_path):
    """Rows behind it go; in another run's folder, and for a fresh start, there are none to keep."""
    metrics = folder.file("metrics.jsonl")
    metrics.write_text('{"step": 1}\n')
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, [FakeLearner()], {"updates": 1}, ARRAYS)
    checkpoints.wait()
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"st')
    last = folder.file("checkpoints", "last").resolve()
    assert rewind(RunFolder(str(tmp_path), "other"), last) == 1
    assert rewind(folder, last) == 1 and metrics.read_text() == '{"step": 1}\n'
    assert rewind(folder, None) == 0 and metrics.read_text() == ""
