"""LeRobot as it is published: stale indices, films of many episodes, films that do not fit their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_vlac.datasets import Dataset, DatasetOptions, Trajectory, open_dataset
from evo_vlac.datasets import parquet as tables
from evo_vlac.errors import DatasetError
from evo_vlac.video import write_video
from tests.evo_vlac.datasets.lerobot_sets import TOP, episode2, films3, images3, shade, write_info, write_parquet


def shades(trajectory: Trajectory) -> list[int]:
    return [round(float(frame.mean())) for frame in trajectory.frames]


def said(dataset: Dataset) -> str:
    return "; ".join(dataset.reading.chosen)


def test_a_stale_index_is_found_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The converter's index names file 0 for episodes that lie in file 1 (lerobot issue 2401); said once."""
    dataset = open_dataset(images3(tmp_path, [[0], [1, 2]]))
    assert [shades(t) for t in dataset] == [[10 * e + f for f in range(4)] for e in range(3)]
    assert caplog.text.count("rows lie in other data files") == 1 and not dataset.skipped


def test_an_episode_in_two_files_is_whole(tmp_path: Path) -> None:
    """Its rows come together, in the order of their frames; rows in another order are put right."""
    root = images3(tmp_path, [[0]])
    file = root / "data/chunk-000/file-000.parquet"
    whole = tables.read_table(file)
    for number, rows in enumerate(([3, 1], [2, 0])):
        part = {key: [column[i] for i in rows] for key, column in whole.items()}
        write_parquet(root / f"data/chunk-000/file-{number:03d}.parquet", part)
    (trajectory,) = open_dataset(root)
    assert shades(trajectory) == [0, 1, 2, 3]
    write_parquet(file, {key: [column[i] for i in (2, 0, 3, 1)] for key, column in whole.items()})
    (root / "data/chunk-000/file-001.parquet").unlink()
    assert shades(next(open_dataset(root))) == [0, 1, 2, 3]


def test_only_the_row_groups_of_an_episode_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, however many episodes lie in it; with statistics in the footer and without."""
    read: list[int] = []
    group = tables.EpisodeRows._group

    def counted(self: tables.EpisodeRows, file: Path, number: int) -> Any:
        if self._last != (file, number):
            read.append(number)
        return group(self, file, number)

    monkeypatch.setattr(tables.EpisodeRows, "_group", counted)
    for statistics in (True, False):
        root = images3(tmp_path / str(statistics), [range(6)], row_group_size=8, write_statistics=statistics)
        read.clear()
        assert len(list(open_dataset(root))) == 6 and read == [0, 1, 2]
        read.clear()
        (third,) = open_dataset(root, options=DatasetOptions(episode="3"))
        assert shades(third) == [30, 31, 32, 33] and read == [1]


def test_the_index_is_read_without_its_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are most of it in large datasets."""
    seen: list[str] = []
    read = tables.read_table

    def watched(path: Path, *wanted: Any) -> dict[str, list[Any]]:
        found = read(path, *wanted)
        seen.extend(found)
        return found

    monkeypatch.setattr("evo_vlac.datasets.lerobot.read_table", watched)
    assert len(list(open_dataset(films3(tmp_path, 2)))) == 2
    assert "length" in seen and not [column for column in seen if column.startswith("stats/")]


def test_a_film_of_many_episodes_is_opened_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order without a seek; a single episode by one; frames that are thinned away are never made arrays."""
    import evo_vlac.video.reader as reader

    made = 0
    turned = reader._turned

    def counted(frame: Any) -> Any:
        nonlocal made
        made += 1
        return turned(frame)

    monkeypatch.setattr(reader, "_turned", counted)
    root = films3(tmp_path)
    found = list(open_dataset(root))
    assert [t.source_frames for t in found] == [tuple(range(6))] * 10 and made == 60
    assert all(shades(t) == pytest.approx([2 * (6 * e + f) for f in range(6)], abs=2) for e, t in enumerate(found))
    made = 0
    (late,) = open_dataset(root, options=DatasetOptions(episode="episode_000007", fps=5))
    assert made == len(late) == 4 and late.source_frames == (0, 2, 4, 5)
    assert shades(late) == pytest.approx([84, 88, 92, 94], abs=2) and late.seconds == pytest.approx((0, 0.2, 0.4, 0.5))


def test_what_lies_behind_a_films_end_is_skipped(tmp_path: Path) -> None:
    """Stale time stamps that cannot be put right (the film is longer than its episodes): that episode is listed, with
    what was looked for; the others are read."""
    root = films3(tmp_path, 3, **{f"videos/{TOP}/from_timestamp": [0.0, 60.0, 1.2]})
    write_video(root / f"videos/{TOP}/chunk-000/file-000.mp4", [shade(2 * i) for i in range(30)], 10)
    dataset = open_dataset(root)
    assert [t.name[-1] for t in dataset] == ["0", "2"]
    assert "from 60" in dataset.skipped[0].reason and "no frames" in dataset.skipped[0].reason


def test_broken_episodes_are_skipped_counted_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A table that is cut, a table of another dataset; where nothing can be read that is the error."""
    root = images3(tmp_path, [[0], [1], [2]], {"data/file_index": [0, 1, 2]})
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1")
    dataset = open_dataset(root)
    assert [t.name[-1] for t in dataset] == ["0", "2"]
    assert [(s.name[-1], "not a parquet" in s.reason) for s in dataset.skipped] == [("1", True)]
    assert "episode_000001 is skipped" in caplog.text
    for file in (root / "data").rglob("*.parquet"):
        file.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DatasetError, match=r"git lfs pull\) \(3 cannot be read"):
        list(open_dataset(root))


def test_an_index_that_is_wrong_is_said(tmp_path: Path) -> None:
    """An episode listed twice (a recording that was resumed), another number in info.json, NaN where a merge had no
    value, a shard of the index that is cut."""
    root = images3(tmp_path, [[0, 1]], {"data/file_index": [float("nan"), 0.0]})
    extra = {"episode_index": [1], "length": [9], "data/chunk_index": [0], "data/file_index": [0], "tasks": [["b"]]}
    write_parquet(root / "meta/episodes/chunk-000/file-001.parquet", extra)
    (root / "meta/episodes/chunk-000/file-002.parquet").write_bytes(b"PAR1")
    write_info(root, "v3.0", {TOP: {"dtype": "image"}}, total_episodes=7)
    dataset = open_dataset(root)
    assert [(len(t), t.task) for t in dataset] == [(4, "lift it"), (4, "b")]
    for words in ("1 episodes twice", "info.json says 7 episodes", "the rows count"):
        assert words in said(dataset)
    assert [s.name for s in dataset.skipped] == ["meta/episodes/chunk-000/file-002.parquet"]


@pytest.mark.parametrize(
    ("depth", "colour"),
    [
        ({"observation.images.a": {"dtype": "video", "info": {"video.is_depth_map": True}}}, "observation.images.b"),
        ({"observation.images.a": {"dtype": "video", "video_info": {"is_depth_map": True}}}, "observation.images.b"),
        ({"observation.images.cam_depth": {"dtype": "video"}}, "observation.images.cam_high"),
        ({"observation.images.cam_high_segmentation": {"dtype": "video"}}, "observation.images.cam_high"),
    ],
)
def test_depth_maps_are_no_cameras(tmp_path: Path, depth: dict[str, Any], colour: str) -> None:
    """By what the dataset says of them, or by their name; one line says what was taken. By name they can be had."""
    root = episode2(tmp_path, features={**depth, colour: {"dtype": "video"}, "observation.images.wrist": depth_free()})
    dataset = open_dataset(root)
    next(dataset)
    assert f"camera {colour} is taken of {', '.join(depth)}, {colour}" in said(dataset)
    assert len(next(open_dataset(root, options=DatasetOptions(camera=next(iter(depth)))))) == 10


def depth_free() -> dict[str, Any]:
    return {"dtype": "video", "info": {"video.is_depth_map": False}}


@pytest.mark.parametrize(("pictures", "first"), [(10, 9), (9, 8), (8, 7), (11, 9), (5, None), (40, 9)])
def test_a_film_that_does_not_fit_its_table(tmp_path: Path, pictures: int, first: int | None) -> None:
    """The table's success counts. A last picture stands for up to 0.2 s of lost ones, not for more; pictures after the
    table's end are left out."""
    root = episode2(tmp_path, pictures, **{"next.success": [False] * 9 + [True]})
    dataset = open_dataset(root)
    (trajectory,) = dataset
    assert trajectory.success is True and trajectory.first_done == first and len(trajectory) <= 12
    assert ("table" in said(dataset)) == (pictures != 10)


def test_a_film_of_another_rate_is_matched_by_time(tmp_path: Path) -> None:
    """30 pictures a second beside 10 rows a second."""
    times = [i / 10 for i in range(10)]
    root = episode2(tmp_path, 28, fps=30, timestamp=times, **{"next.success": [False] * 5 + [True] * 5})
    (trajectory,) = open_dataset(root)
    assert len(trajectory) == 28 and trajectory.dones == tuple(i >= 14 for i in range(28))


def test_a_success_in_every_row_is_the_episodes(tmp_path: Path) -> None:
    """It says that the episode succeeded, not that it was done from its start."""
    dataset = open_dataset(episode2(tmp_path, success=[True] * 10))
    (trajectory,) = dataset
    assert trajectory.success is True and trajectory.dones is None and "true in every row" in said(dataset)


def test_success_in_other_spellings(tmp_path: Path) -> None:
    """Texts, lists of one, nothing."""
    texts = episode2(tmp_path / "a", success=["False"] * 9 + ["True"])
    lists = episode2(tmp_path / "b", success=[[False]] * 10)
    nothing = episode2(tmp_path / "c", success=np.full(10, np.nan))
    assert [next(open_dataset(root)).success for root in (texts, lists, nothing)] == [True, False, None]


def test_a_missing_file_is_not_replaced_by_another(tmp_path: Path) -> None:
    """Version 2 without episode numbers in its tables: the file is the episode."""
    root = episode2(tmp_path)
    write_parquet(root / "data/chunk-000/episode_000000.parquet", {"task_index": [0] * 10})
    (root / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": 10}\n{"episode_index": 1, "length": 10}')
    dataset = open_dataset(root)
    assert [t.name[-1] for t in dataset] == ["0"] and "is missing" in dataset.skipped[0].reason


def test_several_tasks_of_an_episode(tmp_path: Path) -> None:
    """The first, which is said."""
    dataset = open_dataset(images3(tmp_path, [[0]], {"tasks": [["lift it", "push it"]]}))
    assert next(dataset).task == "lift it" and "several tasks" in said(dataset)


def test_tasks_may_be_missing(tmp_path: Path) -> None:
    """A dataset without a list of tasks is read with one given."""
    root = episode2(tmp_path)
    (root / "meta/tasks.jsonl").unlink()
    assert next(open_dataset(root, options=DatasetOptions(task="x"))).task == "x"
    (root / "meta/episodes.jsonl").write_text(json.dumps({"length": 3}))
    with pytest.raises(DatasetError, match="without a number"):
        next(open_dataset(root))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_tables_as_other_systems_write_them(tmp_path: Path, encoding: str) -> None:
    """A mark at the beginning, UTF-16, cp1252; U+2028 within a line ends it in no encoding that has it."""
    root, task = episode2(tmp_path), "ouvre le tiroir à café" + ("" if encoding == "cp1252" else "\u2028vite")
    written = {"info.json": (root / "meta/info.json").read_text()}
    written["episodes.jsonl"] = json.dumps({"episode_index": 0, "length": 10, "tasks": [task]}, ensure_ascii=False)
    written["tasks.jsonl"] = json.dumps({"task_index": 0, "task": task}, ensure_ascii=False)
    for name, text in written.items():
        (root / "meta" / name).write_bytes(text.encode(encoding))
    assert next(open_dataset(root)).task == task


@pytest.mark.parametrize(
    "starts",
    [
        [0.0, 0.0, 0.0],  # never added up
        [0.0, 0.6, 0.6],  # one episode twice
        [0.0, 60.0, 60.6],  # of another film
        [1.2, 0.6, 0.0],  # the last first: this is possible, and believed
    ],
)
def test_time_stamps_that_cannot_be_true(tmp_path: Path, starts: list[float]) -> None:
    """Several episodes in the same pictures, or after the film's end: where all together are as long as the film, they
    are one after the other. Said once."""
    ends = [start + 0.6 for start in starts]
    stamps = {f"videos/{TOP}/from_timestamp": starts, f"videos/{TOP}/to_timestamp": ends}
    dataset = open_dataset(films3(tmp_path, 3, **stamps))
    found = [shades(t)[0] for t in dataset]
    if starts[0]:
        assert found == pytest.approx([24, 12, 0], abs=2) and not said(dataset)
    else:
        assert found == pytest.approx([0, 12, 24], abs=2) and "one after the other" in said(dataset)
    assert not dataset.skipped


def test_time_stamps_that_cannot_be_put_right_are_said(tmp_path: Path) -> None:
    """The film is longer than its episodes: they may share pictures on purpose."""
    stamps = {f"videos/{TOP}/from_timestamp": [0.0, 0.0, 0.6], f"videos/{TOP}/to_timestamp": [0.6, 0.6, 1.2]}
    root = films3(tmp_path, 3, **stamps)
    write_video(root / f"videos/{TOP}/chunk-000/file-000.mp4", [shade(2 * i) for i in range(30)], 10)
    dataset = open_dataset(root)
    assert [shades(t)[0] for t in dataset] == pytest.approx([0, 0, 12], abs=2)
    assert "the same pictures to several episodes" in said(dataset) and not dataset.skipped


@pytest.mark.parametrize(
    ("key", "bad", "told"),
    [
        (f"videos/{TOP}/from_timestamp", "soon", "from_timestamp is 'soon', no number"),
        (f"videos/{TOP}/from_timestamp", None, "does not say where in its film"),
        (f"videos/{TOP}/chunk_index", float("inf"), "cannot be filled"),
    ],
)
def test_a_bad_row_of_meta_costs_its_episode_alone(tmp_path: Path, key: str, bad: Any, told: str) -> None:
    """It is skipped, and the others lie where they lay: nobody gets the film of all."""
    root = films3(tmp_path, 3)
    row = {"episode_index": [1], "length": [6], f"videos/{TOP}/from_timestamp": [0.6], key: [bad]}
    write_parquet(root / "meta/episodes/chunk-000/file-001.parquet", row)
    dataset = open_dataset(root)
    assert [(t.name[-1], shades(t)) for t in dataset] == [
        (str(e), pytest.approx([2 * (6 * e + f) for f in range(6)], abs=2)) for e in (0, 2)
    ]
    ((name, reason),) = [(skipped.name[-1], skipped.reason) for skipped in dataset.skipped]
    assert name == "1" and told in reason


def test_an_info_without_features(tmp_path: Path) -> None:
    """One line, not a traceback."""
    write_info(tmp_path, "v2.1", {})
    (tmp_path / "meta/info.json").write_text('{"codebase_version": "v2.1", "features": null}')
    with pytest.raises(DatasetError, match="no camera images"):
        next(open_dataset(tmp_path))
