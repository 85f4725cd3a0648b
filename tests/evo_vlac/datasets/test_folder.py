"""Folders of films and of pictures, as cameras and people leave them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evo_vlac.datasets import DatasetOptions, Trajectory, is_dataset, open_dataset
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.errors import DatasetError, OptionError, VideoError
from evo_vlac.video import read_video, write_video

FRAMES = [np.full((48, 64, 3), i * 6, np.uint8) for i in range(20)]


def test_a_folder_of_pictures_is_a_trajectory(tmp_path: Path) -> None:
    """The folder itself, where there is nothing else in it; its pictures have numbers and no seconds."""
    for i in range(3):
        Image.fromarray(FRAMES[i]).save(tmp_path / f"{i}.png")
    (trajectory,) = open_dataset(tmp_path, options=DatasetOptions(task="lift it"))
    assert len(trajectory) == 3 and trajectory.source_frames == (0, 1, 2) and math.isnan(trajectory.seconds[0])


def test_films_of_depth_are_no_trajectories(tmp_path: Path) -> None:
    """Beside films in colour; alone they are what is meant."""
    (tmp_path / "task.txt").write_text("lift it")
    for name in ("1_rgb.mp4", "1_depth.mp4"):
        write_video(tmp_path / name, FRAMES, 10)
    dataset = open_dataset(tmp_path)
    assert [t.name for t in dataset] == ["1_rgb.mp4"] and "such as 1_depth.mp4" in str(dataset.reading.chosen)
    (tmp_path / "1_rgb.mp4").unlink()
    assert [t.name for t in open_dataset(tmp_path)] == ["1_depth.mp4"]


def test_numbers_and_seconds_of_the_recording(tmp_path: Path) -> None:
    """Beside frames that were thinned, also when fewer still are taken of them."""
    write_video(tmp_path / "a.mp4", FRAMES, 10)
    (trajectory,) = open_dataset(tmp_path, options=DatasetOptions(task="x", fps=5))
    assert trajectory.source_frames == (*range(0, 20, 2), 19)
    assert trajectory.seconds == pytest.approx([i / 10 for i in trajectory.source_frames])
    assert trajectory.take([1, 10]).source_frames == (2, 19) and trajectory.take([10]).seconds == pytest.approx((1.9,))


def test_one_broken_film_among_others(tmp_path: Path) -> None:
    """It is listed, and so is one whose row of the table is wrong."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(tmp_path / name, FRAMES, 10)
    (tmp_path / "b.mp4").write_bytes(b"x" * 99)
    (tmp_path / "tasks.csv").write_text("video,task,success\na.mp4,x,perhaps\nb.mp4,x,1\nc.mp4,x,No\n")
    dataset = open_dataset(tmp_path)
    assert [(t.name, t.success) for t in dataset] == [("c.mp4", False)]
    assert ["perhaps" in dataset.skipped[0].reason, "not a video" in dataset.skipped[1].reason] == [True, True]


def test_one_episode_by_name_or_number(tmp_path: Path) -> None:
    """Of films; one that is not there gives nothing."""
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, FRAMES, 10)
    for episode in ("b", "b.mp4", "1"):
        assert [t.name for t in open_dataset(tmp_path, options=DatasetOptions(task="x", episode=episode))] == ["b.mp4"]
    assert not list(open_dataset(tmp_path, options=DatasetOptions(task="x", episode="7")))


def test_a_folder_of_two_kinds_says_which_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HDF5 before films; pictures before films, for a command that takes one trajectory."""
    with Hdf5Writer(tmp_path / "a.h5", "x", "lift it") as writer:
        writer.write(Trajectory("x", "lift it", FRAMES))
    write_video(tmp_path / "a.mp4", FRAMES, 10)
    dataset = open_dataset(tmp_path)
    assert [t.name for t in dataset] == ["a/demo_0"] and "--format folder" in str(dataset.reading.chosen)
    Image.fromarray(FRAMES[0]).save(tmp_path / "0.png")
    assert len(read_video(tmp_path)) == 1 and "not its 1 films" in caplog.text


def test_what_is_a_dataset_of_several(tmp_path: Path) -> None:
    """Not a film, not a folder of pictures, nothing unknown."""
    write_video(tmp_path / "films/a.mp4", FRAMES, 10)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(FRAMES[0]).save(tmp_path / "pictures/0.png")
    (tmp_path / "files").mkdir()
    Hdf5Writer(tmp_path / "files/a.h5", "x", "y").__exit__(None, None, None)
    found = {name: is_dataset(tmp_path / name) for name in ("films", "films/a.mp4", "pictures", "files", "none")}
    assert found == {"films": True, "films/a.mp4": False, "pictures": False, "files": True, "none": False}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="or pictures"):
        open_dataset(tmp_path / "empty")


@pytest.mark.parametrize(
    ("encoding", "table"),
    [
        ("utf-8-sig", 'video;task;success\nm\u00fc.mp4;"lift; then wait";1\n'),
        ("utf-16", "Video\tTask\tSuccess\r\nm\u00fc.mp4\tlift; then wait\t1\r\n"),
        ("cp1252", 'sep=;\r\nvideo; task; success\r\nm\u00fc.mp4;"lift; then wait";1\r\n'),
        ("utf-8", 'video,task,success\nC:\\films\\m\u00fc.mp4,"lift; then wait",true\n'),
        ("utf-8", 'task,success,video\n"lift; then wait",yes,videos/m\u00fc\n'),
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, encoding: str, table: str) -> None:
    """With semicolons, tabs, a line that names the separator, names in capitals, paths of another machine; the film's
    name as macOS stores it, its umlaut in two letters."""
    write_video(tmp_path / "mu\u0308.mp4", FRAMES, 10)
    (tmp_path / "tasks.csv").write_bytes(table.encode(encoding))
    (trajectory,) = open_dataset(tmp_path)
    assert (trajectory.task, trajectory.success) == ("lift; then wait", True)


def test_a_table_without_the_film_is_said(tmp_path: Path) -> None:
    """And films whose paths end in the same name are not mixed up."""
    for name in ("x\\cam.mp4", "y\\cam.mp4", "b.mp4"):
        write_video(tmp_path / name, FRAMES, 10)
    (tmp_path / "tasks.json").write_text('{"x\\\\cam.mp4": "push", "y\\\\cam.mp4": "pull", "c.mp4": "lift"}')
    dataset = open_dataset(tmp_path)
    assert [(t.name, t.task) for t in dataset] == [("x\\cam.mp4", "push"), ("y\\cam.mp4", "pull")]
    assert "its table names x\\cam.mp4, y\\cam.mp4, c.mp4" in dataset.skipped[0].reason


def test_what_systems_leave_in_folders(tmp_path: Path) -> None:
    """macOS' ``._*``, Windows' ``Thumbs.db`` and ``desktop.ini`` beside films, in folders of pictures, in a bin."""
    (tmp_path / "task.txt").write_text("lift it")
    write_video(tmp_path / "a.mp4", FRAMES, 10)
    (tmp_path / "b").mkdir()
    for i in range(2):
        Image.fromarray(FRAMES[i]).save(tmp_path / f"b/{i}.png")
    for name in ("._a.mp4", "._task.txt", "Thumbs.db", "desktop.ini", ".DS_Store", "b/._0.png", "b/Thumbs.db"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for folder in ("__MACOSX", ".Trash-1000/files", "@eaDir/a.mp4"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(FRAMES[0]).save(tmp_path / folder / "0.png")
    dataset = open_dataset(tmp_path)
    assert [(t.name, len(t)) for t in dataset] == [("a.mp4", 20), ("b", 2)] and not dataset.skipped


def test_files_named_in_capitals(tmp_path: Path) -> None:
    """As cameras and Windows name them."""
    for name in ("A.MP4", "B.MP4"):
        write_video(tmp_path / "x.mp4", FRAMES, 10)
        (tmp_path / "x.mp4").rename(tmp_path / name)
    (tmp_path / "A.TXT").write_text("push it")
    (tmp_path / "TASK.TXT").write_text("lift it")
    assert [(t.name, t.task) for t in open_dataset(tmp_path)] == [("A.MP4", "push it"), ("B.MP4", "lift it")]


def test_pictures_of_kinds_that_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A phone's HEIC beside PNGs is not left out without a word; alone it is named."""
    (tmp_path / "IMG_1.HEIC").write_bytes(b"ftypheic")
    with pytest.raises(VideoError, match="but 1 of kinds that are not read, as IMG_1"):
        read_video(tmp_path)
    Image.fromarray(FRAMES[0]).save(tmp_path / "0.png")
    assert len(read_video(tmp_path)) == 1 and "1 pictures are taken, and left out are 1 of kinds" in caplog.text


def test_an_empty_path_is_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``screen "$DATA"`` of a variable that has no value."""
    write_video(tmp_path / "a.mp4", FRAMES, 10)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="is empty"):
        open_dataset("")
