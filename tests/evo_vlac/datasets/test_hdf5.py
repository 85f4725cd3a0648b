"""Demonstration files: what is written is what is read, and what is broken is named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from evo_vlac.datasets import DatasetOptions, Trajectory, open_dataset
from evo_vlac.datasets.hdf5 import Hdf5Writer, read_demonstrations, stored_demos
from evo_vlac.datasets.trajectory import Outline
from evo_vlac.errors import DatasetError, OutputError


def demo(length: int = 6, done_from: int | None = 4, **changes: object) -> Trajectory:
    frames = np.random.default_rng(0).integers(0, 255, (length, 8, 8, 3), dtype=np.uint8)
    dones = tuple(done_from is not None and i >= done_from for i in range(length))
    fields = {"name": "d", "task": "lift the red cube", "frames": frames, "dones": dones, "success": any(dones)}
    return Trajectory(**{**fields, "kind": "success", "seed": 7, **changes})  # type: ignore[arg-type]


def outline(dones: list[int] | None, success: bool = True, length: int = 6) -> Outline:
    return Outline("d", "t", length, None if dones is None else tuple(map(bool, dones)), success)


def test_round_trip(tmp_path: Path) -> None:
    """Every field of an episode survives the file."""
    path = tmp_path / "d.h5"
    actions = np.ones((5, 7), np.float32)
    with Hdf5Writer(path, "Lift", "lift the red cube") as writer:
        for seed in range(12):
            writer.write(demo(seed=seed, actions=actions, proprio=np.zeros((6, 8), np.float32)))
    read = list(read_demonstrations([path]))
    assert [d.seed for d in read] == list(range(12))  # by number: demo_2 comes before demo_10
    first, original = read[0], demo()
    assert np.array_equal(first.frames, original.frames)
    assert first.dones == original.dones
    assert (first.task, first.kind, first.success, first.first_done) == ("lift the red cube", "success", True, 4)
    assert first.actions is not None and np.array_equal(first.actions, actions)


def test_more_cameras_are_stored_beside_the_first(tmp_path: Path) -> None:
    """Each is read by its name; of an open file nothing but what is asked for."""
    path, one = tmp_path / "d.h5", demo()
    wrist = np.random.default_rng(1).integers(0, 255, (6, 4, 4, 3), dtype=np.uint8)
    with Hdf5Writer(path, "Lift", "lift", task_name="Lift") as writer:
        writer.write(one, {"wrist": wrist})
    with stored_demos(path) as (stored,):
        assert (stored.name, stored.task, stored.kind, stored.success) == ("d/demo_0", one.task, "success", True)
        assert stored.actions is None and stored.proprio is None
        assert np.array_equal(stored.frames("wrist"), wrist)
        assert np.array_equal(stored.frames(), one.frames)


def test_a_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    """A file appears only when it is whole."""
    with pytest.raises(ZeroDivisionError), Hdf5Writer(tmp_path / "d.h5", "Lift", "t") as writer:
        writer.write(demo())
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_step_flags_of_robomimic_files(tmp_path: Path) -> None:
    """A file with one flag a step (not an observation) is read; its last flag counts for the last observation."""
    path = tmp_path / "d.h5"
    with Hdf5Writer(path, "Lift", "t") as writer:
        writer.write(demo())
    with h5py.File(path, "a") as file:
        del file["data/demo_0/dones"]
        file["data/demo_0/dones"] = np.array([0, 0, 0, 0, 1], bool)
    (read,) = read_demonstrations([path])
    assert read.dones == (False, False, False, False, True, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "no such HDF5 file"),
        ("garbage", "not an HDF5 file that can be read"),
        ("empty", "no group 'data'"),
        ("camera", "there are: agentview"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, change: str | None, message: str) -> None:
    """Each way a file can be unusable ends in a DatasetError that says which."""
    path = tmp_path / "d.h5"
    camera = "agentview"
    if change == "garbage":
        path.write_bytes(b"no")
    elif change == "empty":
        h5py.File(path, "w").close()
    elif change == "camera":
        camera = "wrist"
        with Hdf5Writer(path, "Lift", "t") as writer:
            writer.write(demo())
    with pytest.raises(DatasetError, match=message):
        list(read_demonstrations([path], camera))


def test_bad_episodes_are_refused() -> None:
    """Frames of another dtype or shape, no frames, an empty task, too few flags."""
    good = demo()
    with pytest.raises(DatasetError, match="uint8"):
        demo(frames=np.asarray(good.frames, np.float32))
    with pytest.raises(DatasetError, match="no frames"):
        demo(frames=good.frames[:0], dones=None)
    with pytest.raises(DatasetError, match="task is empty"):
        demo(task=" ")
    with pytest.raises(DatasetError, match="3 done flags for 6 frames"):
        demo(dones=(False,) * 3)


def test_tasks_by_file(tmp_path: Path) -> None:
    """An instruction given for a file replaces the file's; a wrong number of them is refused."""
    path = tmp_path / "d.h5"
    with Hdf5Writer(path, "Lift", "t") as writer:
        writer.write(demo())
    assert [d.task for d in read_demonstrations([path, path], tasks=("a", "b"))] == ["a", "b"]
    with pytest.raises(DatasetError, match="1 tasks for 2"):
        list(read_demonstrations([path, path], tasks=("a",)))


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder in the way of the file is an OutputError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Hdf5Writer(tmp_path / "file" / "d.h5", "Lift", "t")


@pytest.mark.parametrize(
    ("dones", "success", "end", "until"),
    [
        ([0, 0, 0, 1, 1, 0], True, 3, 4),  # dropped again
        ([0, 0, 0, 0, 1, 1], True, 4, 5),
        ([0] * 6, False, None, None),
        ([1] * 6, True, None, None),  # done from the start: no way to measure progress on
        (None, True, 5, 5),
        (None, False, None, None),
    ],
)
def test_where_a_success_ends(dones: list[int] | None, success: bool, end: int | None, until: int | None) -> None:
    """``end`` is the first done frame and ``done_until`` the last of its unbroken stretch."""
    found = outline(dones, success)
    assert (found.end, found.done_until) == (end, until)


def test_files_of_one_name_in_several_folders(tmp_path: Path) -> None:
    """Their trajectories have names of their own: reports and lists go by them."""
    for folder in ("monday", "tuesday"):
        with Hdf5Writer(tmp_path / folder / "demo.h5", "Lift", "lift it") as writer:
            writer.write(Trajectory("x", "lift it", np.zeros((2, 8, 8, 3), np.uint8)))
    assert [t.name for t in open_dataset(tmp_path)] == ["monday/demo/demo_0", "tuesday/demo/demo_0"]


def test_files_of_other_layouts_are_refused_in_one_line(tmp_path: Path) -> None:
    """An array where the episodes should be; an array among them."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(DatasetError, match="no group 'data'"):
        next(open_dataset(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data/mask"] = [True]
        file["data/demo_0/obs/agentview_image"] = np.zeros((2, 8, 8, 3), np.uint8)
    dataset = open_dataset(tmp_path / "b.h5", options=DatasetOptions(task="x"))
    assert len(list(dataset)) == 1 and dataset.skipped[0].reason == "b/mask is no episode, but an array"
