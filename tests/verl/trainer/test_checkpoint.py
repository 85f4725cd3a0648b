"""Checkpoints on disk: whole or not at all, the right ones kept and found. Learners are stand-ins that write a file."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

from verl.errors import CheckpointDamagedError, ConfigError, RunFailedError
from verl.trainer import checkpoint as checkpoint_module
from verl.trainer.checkpoint import Checkpoints, find_checkpoint, rewind
from verl.trainer.load_config import load_config
from verl.trainer.run_folder import RunFolder

ARRAYS = {"latencies": np.arange(3)}


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


@pytest.fixture
def two(folder):
    """Two whole checkpoints, the older first."""
    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2):
        checkpoints.save(step, [FakeLearner()], {"updates": step}, ARRAYS)
    checkpoints.wait()
    return [folder.file("checkpoints", f"step-{step}") for step in (1, 2)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", ["trainer.json", "trainer.npz", "learner/*.distcp", "learner/.metadata"])
def test_a_damaged_checkpoint_is_named_and_auto_goes_back_to_one_that_is_whole(folder, two, name, spoil):
    """Whatever file it is, whatever happened to it; the user reads which file, and from where the run goes on."""
    (file,) = two[1].glob(name)
    spoil(file)
    said: list[str] = []
    assert find_checkpoint(trainer(resume_mode="auto"), folder, said.append) == two[0]
    assert str(file) in said[0] and str(two[0]) in said[1]
    named = trainer(resume_mode="resume_path", resume_from_path=str(two[1]))
    if (two[1] / "trainer.json").exists():
        with pytest.raises(CheckpointDamagedError, match=rf"{file.name}.*resume_from_path={two[0]}"):
            find_checkpoint(named, folder)


def test_without_a_whole_checkpoint_there_is_no_silent_fresh_start(folder, two):
    for one in two:
        cut(one / "trainer.json")
    with pytest.raises(CheckpointDamagedError, match=r"step-2/trainer\.json has .* bytes.*another trainer\.run_id"):
        find_checkpoint(trainer(resume_mode="auto"), folder)


def test_a_checkpoint_without_checksums_is_read_as_far_as_it_can_be_checked(folder, two, caplog):
    """One of an older version; the log says that its contents are taken on trust."""
    for one in two:
        (one / "manifest.json").unlink()
    assert find_checkpoint(trainer(resume_mode="auto"), folder) == two[1]
    assert "cannot be checked" in caplog.text
    (two[1] / "trainer.json").write_text("")
    assert find_checkpoint(trainer(resume_mode="auto"), folder) == two[0]


@pytest.mark.parametrize("who", ["trainer", "learner", "learner, its cause lost"])
def test_a_full_disk_is_told_with_path_and_room_and_leaves_no_half_checkpoint(folder, two, monkeypatch, who):
    """Also where a library has wrapped the error, as torch does, and the error names no file."""
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
    if who == "learner":
        wrapped.__context__ = full
    else:
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(3, [FakeLearner()], {"updates": 3}, ARRAYS)
    checkpoints.wait()
    if who == "trainer":
        monkeypatch.setattr(checkpoint_module.np, "savez", lambda *a, **k: (_ for _ in ()).throw(full))
    checkpoints.save(4, [FakeLearner(True if who == "trainer" else wrapped)], {"updates": 4}, ARRAYS)
    words = r"checkpoint 4 .*no space left.*\.part-4; \d+ MiB are free.*\d+ MiB are needed"
    with pytest.raises(RunFailedError, match=words):
        checkpoints.wait()
    assert steps(folder) == ["step-2", "step-3"]
    assert not folder.file("checkpoints", ".part-4").exists()
