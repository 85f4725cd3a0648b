"""The layouts people have are read, or refused with what was looked for."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evo_vlac.datasets import DatasetOptions, Trajectory, open_dataset
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.video import write_video
from tests.evo_vlac.conftest import TASK

UPRIGHT = np.zeros((6, 16, 24, 3), np.uint8)
UPRIGHT[:, :8] = 200  # the upper half is bright
for _i in range(6):
    UPRIGHT[_i] += np.uint8(_i * 4)


def frames_of(trajectory: Trajectory) -> list[int]:
    return [round((float(frame.max()) - 200) / 4) for frame in trajectory.frames]


def test_this_projects_own_files(tmp_path: Path) -> None:
    """Task, success, kind and done flags."""
    with Hdf5Writer(tmp_path / "a.h5", "Lift", TASK) as writer:
        for success in (True, False):
            dones = (*[False] * 5, success)
            writer.write(Trajectory("x", TASK, UPRIGHT, dones=dones, success=success, kind="k"))
    first, second = open_dataset(tmp_path / "a.h5")
    assert (first.task, first.success, first.kind, first.first_done) == (TASK, True, "k", 5)
    assert second.success is False and second.first_done is None and frames_of(first) == list(range(6))
    assert len(list(open_dataset(tmp_path, options=DatasetOptions(limit=1)))) == 1


def libero(path: Path, **attrs: Any) -> Path:
    """As LIBERO writes it: rows from bottom to top, the instruction inside a JSON attribute, rewards of 0 and 1."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(attrs)
        for i in (10, 2):
            demo = data.create_group(f"demo_{i}")
            demo["obs/agentview_rgb"] = UPRIGHT[:, ::-1]
            demo["obs/eye_in_hand_rgb"] = UPRIGHT
            demo["rewards"] = np.array([0, 0, 0, 0, 0, 1], np.uint8)
            demo["dones"] = np.array([0, 0, 0, 0, 0, 1], np.uint8)
    return path


def test_libero_is_turned_upright(tmp_path: Path) -> None:
    """Bright above, in the order of the numbers, with its instruction and success; the wrist camera is not the
    default."""
    info = json.dumps({"language_instruction": ["open the drawer"][0]})
    first, second = open_dataset(libero(tmp_path / "a_demo.hdf5", problem_info=info))
    assert (first.name, second.name) == ("a_demo/demo_2", "a_demo/demo_10")
    assert first.task == "open the drawer" and first.success and first.first_done == 5
    assert first.frames[0][0, 0, 0] > first.frames[0][-1, 0, 0]


def test_liberos_file_names_hold_the_instruction(tmp_path: Path) -> None:
    """Where nothing else does."""
    trajectory, _ = open_dataset(libero(tmp_path / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5"))
    assert trajectory.task == "turn on the stove"


def test_cameras_are_chosen_by_part_of_their_name(tmp_path: Path) -> None:
    """What there is, is listed where the choice does not fit."""
    path = libero(tmp_path / "x_demo.hdf5")
    assert next(open_dataset(path, options=DatasetOptions(camera="eye_in"))).frames[0][0, 0, 0] == 0
    with pytest.raises(DatasetError, match="there are: agentview, eye_in_hand"):
        list(open_dataset(path, options=DatasetOptions(camera="front")))


def test_broken_hdf5_is_named(tmp_path: Path) -> None:
    """No HDF5, no data group, no camera, wrong pictures, no task."""
    (tmp_path / "a.h5").write_text("x")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("other")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_group("data/demo_0/obs")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data/demo_0/obs/a_image"] = np.zeros((3, 4, 4, 3), np.float32)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["data/demo_0/obs/a_image"] = UPRIGHT
    cases = {"a": "not an HDF5", "b": "no group 'data'", "c": "no camera images", "d": "float32", "e": "task is empty"}
    for name, words in cases.items():
        with pytest.raises(DatasetError, match=words):
            list(open_dataset(tmp_path / f"{name}.h5"))
    assert next(open_dataset(tmp_path / "e.h5", options=DatasetOptions(task="x"))).success is None


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT[i]).save(buffer, format="PNG")
    return buffer.getvalue()


def lerobot2(root: Path, images: bool = False) -> Path:
    """Version 2.1 with two episodes; pictures in videos, or in the tables."""
    (root / "meta").mkdir(parents=True)
    key = "observation.images.top"
    info = {
        "codebase_version": "v2.1",
        "fps": 10,
        "chunks_size": 1000,
        "total_episodes": 2,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {key: {"dtype": "image" if images else "video"}, "action": {"dtype": "float32"}},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": TASK}) + "\n")
    episodes = [{"episode_index": i, "length": 6, **({"tasks": [TASK]} if i else {})} for i in range(2)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, episodes)))
    (root / "data/chunk-000").mkdir(parents=True)
    for i in range(2):
        table: dict[str, Any] = {
            "episode_index": [i] * 6,
            "task_index": [0] * 6,
            "next.success": [False] * 5 + [i == 0],
        }
        if images:
            table[key] = [{"bytes": png(k), "path": None} for k in range(6)]
        else:
            write_video(root / f"videos/chunk-000/{key}/episode_{i:06d}.mp4", list(UPRIGHT), 10)
        pq.write_table(pa.table(table), root / f"data/chunk-000/episode_{i:06d}.parquet")
    return root


def lerobot3(root: Path) -> Path:
    """Version 3.0: two episodes in one table and one video."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    key = "observation.images.top"
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "chunks_size": 1000,
        "features": {key: {"dtype": "video"}},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    pq.write_table(pa.table({"task_index": [0], "task": [TASK]}), root / "meta/tasks.parquet")
    episodes = {
        "episode_index": [0, 1],
        "length": [6, 4],
        "tasks": [[TASK], ["other"]],
        "data/chunk_index": [0, 0],
        "data/file_index": [0, 0],
        f"videos/{key}/chunk_index": [0, 0],
        f"videos/{key}/file_index": [0, 0],
        f"videos/{key}/from_timestamp": [0.0, 0.6],
    }
    pq.write_table(pa.table(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    (root / "data/chunk-000").mkdir(parents=True)
    table = {"episode_index": [0] * 6 + [1] * 4, "task_index": [0] * 10}
    pq.write_table(pa.table(table), root / "data/chunk-000/file-000.parquet")
    write_video(root / f"videos/{key}/chunk-000/file-000.mp4", [*UPRIGHT, *UPRIGHT[:4][::-1]], 10)
    return root


@pytest.mark.parametrize("images", [False, True])
def test_lerobot_2(tmp_path: Path, images: bool) -> None:
    """A file per episode; tasks of the episode, or of its steps; success flags where they are."""
    first, second = open_dataset(lerobot2(tmp_path / "set", images))
    assert first.task == second.task == TASK and first.fps == 10
    assert (first.success, second.success) == (True, False)
    assert frames_of(first) == pytest.approx(list(range(6)), abs=1)


def test_lerobot_3(tmp_path: Path) -> None:
    """Episodes are cut out of the shared video by their start and length."""
    first, second = open_dataset(lerobot3(tmp_path / "set"))
    assert frames_of(first) == pytest.approx(list(range(6)), abs=1)
    assert frames_of(second) == pytest.approx([3, 2, 1, 0], abs=1) and second.task == "other"
    slow = next(open_dataset(tmp_path / "set", options=DatasetOptions(fps=5)))
    assert len(slow) == 4 and slow.fps == 5


def test_broken_lerobot_is_named(tmp_path: Path) -> None:
    """Unknown versions, missing files, broken tables."""
    root = lerobot2(tmp_path / "a")
    table = root / "data/chunk-000/episode_000000.parquet"
    table.write_text("x")
    dataset = open_dataset(root)
    assert [t.name for t in dataset] == ["a/episode_000001"] and "not a parquet file" in dataset.skipped[0].reason
    table.unlink()
    dataset = open_dataset(root)
    assert len(list(dataset)) == 1 and "is missing" in dataset.skipped[0].reason
    info = json.loads((root / "meta/info.json").read_text())
    for change, words in (({"codebase_version": "v9"}, "version v9"), ({"data_path": "{nothing}"}, "cannot be filled")):
        (root / "meta/info.json").write_text(json.dumps({**info, **change}))
        with pytest.raises(DatasetError, match=words):
            list(open_dataset(root))
    for text, words in (("[]", "no JSON object"), ("{", "cannot be read")):
        (root / "meta/info.json").write_text(text)
        with pytest.raises(DatasetError, match=words):
            list(open_dataset(root))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos and a folder of pictures."""
    for name in ("v2.mp4", "v10.mp4"):
        write_video(tmp_path / name, list(UPRIGHT), 5)
    (tmp_path / "frames").mkdir()
    Image.fromarray(UPRIGHT[0]).save(tmp_path / "frames" / "0.png")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tasks.json", json.dumps({"v2.mp4": "a", "v10": {"task": "b", "success": False}, "frames": "c"})),
        (
            "tasks.jsonl",
            '{"video": "v2.mp4", "task": "a"}\n{"video": "v10.mp4", "task": "b", "success": "no"}\n'
            '{"video": "frames", "task": "c"}\n',
        ),
        ("tasks.csv", "video,task,success\nv2.mp4,a,\nv10.mp4,b,0\nframes,c,\n"),
    ],
)
def test_folders_with_a_task_file(videos: Path, name: str, text: str) -> None:
    """Each form of the task file, in the natural order of the names."""
    (videos / name).write_text(text)
    found = list(open_dataset(videos))
    assert [(t.name, t.task, t.success) for t in found] == [
        ("frames", "c", None),
        ("v2.mp4", "a", None),
        ("v10.mp4", "b", False),
    ]


def test_one_task_for_all_and_tasks_of_their_own(videos: Path) -> None:
    """task.txt holds for all but those with a text beside them; a single video is a dataset too."""
    (videos / "task.txt").write_text("all\n")
    (videos / "v2.txt").write_text("mine")
    assert [t.task for t in open_dataset(videos)] == ["all", "mine", "all"]
    assert next(open_dataset(videos / "v2.mp4")).task == "mine"
    (videos / "tasks.json").write_text('"every"')
    assert next(open_dataset(videos)).task == "every"


def test_broken_folders_are_named(videos: Path, tmp_path: Path) -> None:
    """No task, a broken task file, a broken video, a strange flag."""
    with pytest.raises(DatasetError, match="no task for it"):
        list(open_dataset(videos))
    (videos / "tasks.csv").write_text("video,task,success\nframes,c,maybe\n")
    with pytest.raises(DatasetError, match="success is 'maybe'"):
        list(open_dataset(videos))
    (videos / "tasks.json").write_text("{")
    with pytest.raises(DatasetError, match=r"tasks\.json cannot be read"):
        list(open_dataset(videos))
    (videos / "tasks.json").unlink()
    (videos / "v2.mp4").write_text("x")
    with pytest.raises(DatasetError, match="not a video"):
        list(open_dataset(videos / "v2.mp4", options=DatasetOptions(task="x")))


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    """Nothing there, nothing known there, an unknown format, bad options."""
    with pytest.raises(DatasetError, match="no dataset at"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match="is none of"):
        open_dataset(tmp_path)
    with pytest.raises(OptionError, match="format is 'rlds'"):
        open_dataset(tmp_path, "rlds")
    for options in ({"limit": 0}, {"fps": 0.0}, {"task": " "}):
        with pytest.raises(OptionError):
            DatasetOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="2 done flags for 6"):
        Trajectory("x", "t", list(UPRIGHT), dones=(True, False))
    with pytest.raises(DatasetError, match="no frames"):
        Trajectory("x", "t", [])
