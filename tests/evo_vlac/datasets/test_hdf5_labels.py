"""HDF5 files of other people: labels in any spelling, labels that are unclear, files that are not finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from evo_vlac.datasets import Dataset, DatasetOptions, Trajectory, open_dataset
from evo_vlac.errors import DatasetError

FRAMES = np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(8)])


def demos(path: Path, *all_arrays: dict[str, Any], attrs: dict[str, Any] | None = None, **own: Any) -> Path:
    """A file with a demo for each of ``all_arrays``; ``attrs`` of the file, ``own`` of every demo."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update({"task": "lift it", **(attrs or {})})
        for number, arrays in enumerate(all_arrays):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(own)
            for name, array in {"obs/agentview_image": FRAMES, **arrays}.items():
                demo[name] = array
    return path


def only(path: Path, **options: Any) -> tuple[Trajectory, Dataset]:
    dataset = open_dataset(path, options=DatasetOptions(**options))
    (trajectory,) = dataset
    return trajectory, dataset


@pytest.mark.parametrize(
    ("value", "success"),
    [
        (b"False", False),
        ("False", False),
        (np.bytes_(b"false"), False),
        (np.array(["no"], dtype=h5py.string_dtype()), False),
        (np.array([0], np.int64), False),
        (np.float32(1), True),
        (b"True", True),
        ("SUCCESS", True),
        ("n/a", None),
        (np.nan, None),
        (h5py.Empty("f"), None),
    ],
)
def test_success_in_any_spelling(tmp_path: Path, value: Any, success: bool | None) -> None:
    """A text is not true because it is not empty."""
    assert only(demos(tmp_path / "a.h5", {}, success=value))[0].success is success


def test_a_success_that_says_neither_is_named(tmp_path: Path) -> None:
    """With what is allowed."""
    with pytest.raises(DatasetError, match="success is 'perhaps'; allowed: true or false"):
        list(open_dataset(demos(tmp_path / "a.h5", {}, success="perhaps")))


def test_texts_in_bytes(tmp_path: Path) -> None:
    """Task, kind, seed and JSON as bytes and numpy strings; RoboCasa's instruction; several in a list."""
    path = demos(tmp_path / "a.h5", {}, task=np.bytes_("heb den Würfel".encode()), kind=b"noisy", seed=b"7")
    trajectory, _ = only(path)
    assert (trajectory.task, trajectory.kind, trajectory.seed) == ("heb den Würfel", "noisy", 7)
    for seed, read in (("none", -1), (2**60 + 1, 2**60 + 1), (np.int64(5), 5)):
        assert only(demos(tmp_path / "s.h5", {}, seed=seed))[0].seed == read
    info = json.dumps({"language_instruction": ["open the drawer"]}).encode()
    assert only(demos(tmp_path / "b.h5", {}, attrs={"task": "", "problem_info": info}))[0].task == "open the drawer"
    meta = json.dumps({"lang": "pick the cup"})
    assert only(demos(tmp_path / "c.h5", {}, attrs={"task": b""}, ep_meta=meta))[0].task == "pick the cup"


def test_no_reward_in_the_file_says_nothing(tmp_path: Path) -> None:
    """All zeros beside dones: perhaps failures, perhaps rewards that were never written. Unclear, and said so."""
    end = np.array([0] * 7 + [1])
    trajectory, dataset = only(demos(tmp_path / "a.h5", {"rewards": np.zeros(8), "dones": end}))
    assert trajectory.success is None and trajectory.dones is None
    assert list(dataset.reading.chosen) == ["success is unclear: no reward in the file, and dones may mark the end"]
    arrays = {"rewards": np.zeros(8), "dones": end}, {"rewards": end, "dones": end}
    failed, succeeded = open_dataset(demos(tmp_path / "b.h5", *arrays))  # rewards are written here
    assert (failed.success, failed.first_done, succeeded.success, succeeded.first_done) == (False, None, True, 7)


def test_dones_that_mark_the_end_of_a_failure(tmp_path: Path) -> None:
    """The stated success counts; what contradicts it is left out, and said."""
    trajectory, dataset = only(demos(tmp_path / "a.h5", {"dones": np.array([0] * 7 + [1])}, success=False))
    assert trajectory.success is False and trajectory.dones is None and "are not used" in str(dataset.reading.chosen)
    trajectory, dataset = only(demos(tmp_path / "b.h5", {"dones": np.array([0] * 7 + [1])}))
    assert trajectory.success is True and "dones are taken as success" in str(dataset.reading.chosen)


@pytest.mark.parametrize(("rows", "first"), [(8, 7), (7, 6), (6, 5), (10, 7), (30, None), (3, 2)])
def test_flags_that_do_not_fit_the_pictures(tmp_path: Path, rows: int, first: int | None) -> None:
    """The success is kept; flags of steps (one fewer) are usual, other numbers are said."""
    path = demos(tmp_path / "a.h5", {"dones": np.array([0] * (rows - 1) + [1])}, success=True)
    trajectory, dataset = only(path)
    assert trajectory.success is True and trajectory.first_done == first
    assert ("table" in str(dataset.reading.chosen)) == (rows not in (7, 8))


def test_dones_in_text(tmp_path: Path) -> None:
    """ "False" is not done."""
    texts = np.array([b"False"] * 7 + [b"True"])
    assert only(demos(tmp_path / "a.h5", {"dones": texts}, success=True))[0].first_done == 7


def test_the_file_says_its_rate(tmp_path: Path) -> None:
    """control_freq of the environment; without one 20 is assumed, which is said when it matters."""
    env = json.dumps({"env_kwargs": {"control_freq": 10}})
    trajectory, _ = only(demos(tmp_path / "a.h5", {}, attrs={"env_args": env}), fps=5.0)
    assert trajectory.source_frames == (0, 2, 4, 6, 7) and trajectory.seconds == (0, 0.2, 0.4, 0.6, 0.7)
    assert [round(float(f.mean())) for f in trajectory.frames] == [0, 20, 40, 60, 70]
    trajectory, dataset = only(demos(tmp_path / "b.h5", {}), fps=5.0)
    assert trajectory.source_frames == (0, 4, 7) and "20 frames a second are assumed" in str(dataset.reading.chosen)


def test_the_camera_that_was_chosen_is_said(tmp_path: Path) -> None:
    """Depth maps and wrist cameras are not taken; LIBERO's are turned; one camera alone is no choice."""
    red, grey = np.zeros_like(FRAMES), FRAMES
    red[..., 0] = 200
    path = demos(tmp_path / "a.h5", {"obs/a_depth_image": grey, "obs/b_image": red, "obs/robot0_hand_image": grey})
    with h5py.File(path, "a") as file:
        del file["data/demo_0/obs/agentview_image"]
    trajectory, dataset = only(path)
    assert trajectory.frames[0][0, 0, 0] == 200
    assert list(dataset.reading.chosen) == ["camera b is taken of a_depth, b, robot0_hand"]
    assert not only(demos(tmp_path / "b.h5", {}, success=True))[1].reading.chosen
    with h5py.File(path, "a") as file:
        file.move("data/demo_0/obs/b_image", "data/demo_0/obs/b_rgb")
    assert "rows from bottom to top" in str(only(path)[1].reading.chosen)


def test_broken_demos_are_skipped_and_listed(tmp_path: Path) -> None:
    """One without pictures, one that is no group; a file that is cut among whole ones, and what systems leave."""
    path = demos(tmp_path / "a.h5", {}, {}, {})
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs"], file["data/demo_2"]
        file["data/demo_2"] = 3
    (tmp_path / "b.h5").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "._a.h5").write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    assert [t.name for t in dataset] == ["a/demo_0"]
    assert [s.name for s in dataset.skipped] == ["a/demo_1", "a/demo_2", str(tmp_path / "b.h5")]


def test_a_file_that_is_being_written_is_called_that(tmp_path: Path) -> None:
    """By the process that holds it open, with HDF5's lock and without; not "not an HDF5 file"."""
    path = tmp_path / "a.h5"
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'w', locking=sys.argv[2] == '1'); print(flush=True); input()"
    for locking in ("1", "0"):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path), locking], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None and child.stdout.readline()
        try:
            with pytest.raises(DatasetError, match=f"held open for writing by process {child.pid}"):
                list(open_dataset(path))
        finally:
            child.communicate(b"\n", timeout=30)
