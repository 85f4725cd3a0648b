"""The collector's file, as the contract with those who read it has it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from evo_vlac.datasets.hdf5 import read_demonstrations
from verl.envs.collect import choose_kind, main, parse_kinds
from verl.errors import ConfigError
from verl.models.warm_start import Demonstrations


def run(out: Path, *more: str) -> int:
    return main(["--out", str(out), "--episodes", "2", "--kinds", "success:1,idle:1", "--max-steps", "6", *more])


def test_the_file_is_robomimic_style_and_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    """Layout, types and attributes; two workers write what one writes."""
    one, two = tmp_path / "one.h5", tmp_path / "sub" / "two.h5"
    assert run(one, "--seed", "40") == 0
    assert run(two, "--seed", "40", "--workers", "2") == 0
    with h5py.File(one) as a, h5py.File(two) as b:
        assert a["data"].attrs["env_name"] == "robosuite"
        assert a["data"].attrs["task"] == "lift the red cube"
        for index in range(2):
            demo, other = a[f"data/demo_{index}"], b[f"data/demo_{index}"]
            steps = int(demo.attrs["num_samples"])
            assert demo.attrs["seed"] == 40 + index
            assert demo.attrs["kind"] in ("success", "idle")
            assert demo.attrs["task"] == "lift the red cube"
            assert demo["actions"].shape == (steps, 7) and demo["actions"].dtype == np.float32
            assert demo["dones"].shape == (steps + 1,) and demo["dones"].dtype == bool
            assert demo["obs/agentview_image"].shape == (steps + 1, 112, 112, 3)
            assert demo["obs/proprio"].shape == (steps + 1, 8)
            for name in ("actions", "obs/agentview_image", "obs/proprio"):
                assert np.array_equal(demo[name][:], other[name][:])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [], "nothing half-written is left"


def test_every_camera_is_written_and_read_again(tmp_path: Path) -> None:
    """The file is read by the package that wrote it: the pictures of each camera, what the simulator knew, the task."""
    out = tmp_path / "two_cameras.h5"
    assert run(out, "--cameras", "agentview,robot0_eye_in_hand", "--image-size", "56") == 0
    one, other = (next(read_demonstrations([out], name)) for name in ("agentview", "robot0_eye_in_hand"))
    assert np.asarray(one.frames).shape == np.asarray(other.frames).shape == (len(one), 56, 56, 3)
    assert not np.array_equal(one.frames[0], other.frames[0])
    assert one.task == "lift the red cube" and one.dones is not None and one.success == any(one.dones)
    assert one.objects.keys() >= {"cube"}
    with h5py.File(out) as file:
        assert file["data"].attrs["task_name"] == "Lift"
    assert Demonstrations.read(out, ["robot0_eye_in_hand", "agentview"], 8, kinds=("success", "idle")).episodes >= 1


def test_a_file_that_cannot_be_written_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the path, before anything is simulated."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "file" / "x.h5")
    assert ended.value.code == 2
    assert f"cannot write {tmp_path}/file/x.h5" in capsys.readouterr().err


def test_the_kind_is_the_seeds() -> None:
    """A seed's kind does not depend on anything but the weights; weights are frequencies."""
    kinds = parse_kinds("success:0.5,failure:0.5")
    drawn = [choose_kind(kinds, seed) for seed in range(400)]
    assert drawn == [choose_kind(kinds, seed) for seed in range(400)]
    assert 150 < drawn.count("success") < 250


@pytest.mark.parametrize("text", ["sucess:1", "success:x", "success:-1", "success:0", "success:nan"])
def test_wrong_kinds_are_refused(text: str) -> None:
    """Unknown names and impossible weights end in one line."""
    with pytest.raises(ConfigError, match="--kinds"):
        parse_kinds(text)


def test_an_unknown_task_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the task and what is allowed, and no file."""
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "x.h5", "--task", "Lft")
    assert ended.value.code == 2
    assert "unknown task 'Lft'; allowed are Lift, Stack" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
