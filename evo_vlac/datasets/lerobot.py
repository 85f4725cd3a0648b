"""LeRobot datasets, versions 2.x (a file per episode) and 3.x (episodes chained in larger files).

meta/info.json                             fps, features, data_path, video_path
meta/episodes.jsonl, tasks.jsonl           2.x: length and tasks of each episode
meta/episodes/**/*.parquet, tasks.parquet  3.x: also where in which file an episode lies
data/..., videos/...                       steps, pictures

Pictures of one episode are in memory. Indices in meta/ are taken as hints: they are stale in many published datasets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.datasets.film_places import Place, checked
from evo_vlac.datasets.labels import difference, flags_of_frames, rows_of_frames, text_of, truth_of
from evo_vlac.datasets.parquet import EpisodeRows, read_table
from evo_vlac.datasets.reading import Reading, pick_camera
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError
from evo_vlac.images import load_image
from evo_vlac.paths import is_system
from evo_vlac.text_files import read_text
from evo_vlac.video.film import Film
from evo_vlac.video.reader import Video, read_film
from evo_vlac.video.thinning import sample_indices

_DONE = ("next.success", "success", "is_success")
_PATHS = {  # where info.json does not say
    "2": (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
    "3": (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
}


def is_lerobot(path: Path) -> bool:
    """Whether the folder has LeRobot's layout."""
    return (path / "meta" / "info.json").is_file()


def read_lerobot(path: Path, options: DatasetOptions, reading: Reading) -> Iterator[Trajectory]:
    """The episodes, in order. Those that cannot be read are skipped."""
    dataset = _Dataset(path, options, reading)
    try:
        for episode in dataset.episodes:
            index = int(episode["episode_index"])
            name = f"{path.name}/episode_{index:06d}"
            if options.wants(index, name, f"episode_{index:06d}"):
                found = reading.tried(name, partial(dataset.trajectory, name, index, episode))
                if found is not None:
                    yield found
    finally:
        dataset.close()


class _Dataset:
    """A dataset's meta data, the data file and the film that were read last."""

    def __init__(self, path: Path, options: DatasetOptions, reading: Reading) -> None:
        self.path, self.options, self.reading = path, options, reading
        self.info = _json(path / "meta" / "info.json")
        self.version = version = str(self.info.get("codebase_version", "v2.1")).lstrip("v").split(".")[0]
        if version not in _PATHS:
            raise DatasetError(f"{path}: LeRobot version {self.info['codebase_version']} is not read; 2.x and 3.x are")
        self._paths = _PATHS[version]
        self.fps = float(self.info.get("fps") or 5.0)
        features = self.info.get("features") or {}
        cameras = [key for key, feature in features.items() if feature.get("dtype") in ("video", "image")]
        depth = [key for key in cameras if _is_depth(features[key])]
        self.camera = pick_camera(str(path), cameras, options.camera, reading, depth)
        self.is_film = features[self.camera]["dtype"] == "video"
        self.episodes, self.tasks = _meta(path, version, self.camera, reading)
        self._count()
        self._done = _DONE if options.labels else ()
        needed = {*self._done, "task_index", "timestamp", *([] if self.is_film else [self.camera])}
        self._rows = EpisodeRows(path / "data", needed.__contains__)
        self._film: Film | None = None
        self._places: dict[int, Place] = {}  # in that film

    def _count(self) -> None:
        if not self.episodes:
            raise DatasetError(f"{self.path}: meta names no episodes")
        total = self.info.get("total_episodes")
        if total is not None and total != len(self.episodes):
            self.reading.chose(f"info.json says {total} episodes; the {len(self.episodes)} that meta lists are read")

    def close(self) -> None:
        """Closes the film."""
        if self._film is not None:
            self._film.close()

    def trajectory(self, name: str, index: int, episode: dict[str, Any]) -> Trajectory:
        """One episode with its pictures."""
        length = _number(episode, "length")
        file = self._file(str(self.info.get("data_path") or self._paths[0]), episode, index, "data")
        whole = None if length is None or self.version == "2" else int(length)  # 2.x: a file an episode
        table, elsewhere = self._rows.rows(file, index, whole)
        if length is not None and len(table) != length:
            self.reading.chose("meta's length is not the number of rows; the rows count", name)
        if elsewhere:
            self.reading.chose("rows lie in other data files than meta/episodes says; found by their episode", name)
        columns = {key: table[key].to_pylist() for key in table.schema.names if key != self.camera}
        video = self._video(name, index, episode) if self.is_film else self._pictures(name, table[self.camera])
        rows = rows_of_frames(
            video.source_frames, video.seconds, video.source_length, columns.get("timestamp"), len(table), self.fps
        )
        if video.source_length != len(table):
            self.reading.chose(difference(video.source_length, len(table)), name)
        dones, success = self._labels(name, columns)
        kept = len(rows)
        return Trajectory(
            name=name,
            task=self.options.task or self._task(name, episode, columns),
            frames=video.frames[:kept],
            fps=min(self.fps, self.options.fps or self.fps),
            dones=None if dones is None else flags_of_frames(dones, rows, self.fps),
            success=success,
            source_frames=video.source_frames[:kept],
            seconds=video.seconds[:kept],
        )

    def _labels(self, name: str, columns: dict[str, list[Any]]) -> tuple[list[bool] | None, bool | None]:
        """Flags of the table's rows, and whether the episode succeeded."""
        key = next((key for key in self._done if key in columns), None)
        known = [] if key is None else [truth_of(value, key) for value in columns[key]]
        if all(flag is None for flag in known):
            return None, None
        if len(known) > 1 and all(known):
            self.reading.chose(f"{key} is true in every row: taken as the episode's, not as when it was done", name)
            return None, True
        flags = [bool(flag) for flag in known]
        return flags, any(flags)

    def _task(self, name: str, episode: dict[str, Any], columns: dict[str, list[Any]]) -> str:
        named = episode.get("tasks")
        if named is not None and len(named):
            if not isinstance(named, str) and len(named) > 1:
                self.reading.chose("an episode has several tasks; the first is taken", name)
            return text_of(named)
        first = columns.get("task_index") or [None]
        return self.tasks.get(int(first[0]), "") if first[0] is not None else ""

    def _pictures(self, name: str, column: Any) -> Video:
        """Pictures stored in the table; only those that stay are decoded."""
        kept = sample_indices(self.fps, self.options.fps or self.fps, len(column))
        frames = tuple(_picture(self.path, column[i].as_py()) for i in kept)
        return Video(frames, self.fps, name, tuple(kept), tuple(i / self.fps for i in kept), len(column))

    def _video(self, name: str, index: int, episode: dict[str, Any]) -> Video:
        file = self._film_file(episode, index)
        if self._film is None or self._film.path != file:
            self.close()
            self._film = None
            self._film = Film(file)
            self._places, wrong = self._places_in(self._film)
            if wrong:
                self.reading.chose(wrong, name)
        place = self._places.get(index)
        if place is None:
            if self._place(episode) is not None or self._places:
                raise DatasetError("meta/episodes does not say where in its film the episode lies")
            return read_film(self._film, fps=self.options.fps)
        end = place.until(self.fps)
        return read_film(self._film, place.start, None if math.isinf(end) else end, self.options.fps)

    def _places_in(self, film: Film) -> tuple[dict[int, Place], str]:
        """Of the episodes that share the film; what is wrong with meta's places, in words."""
        places = self._shared.get(film.path, [])
        return checked(places, self.fps, film.seconds) if places else ({}, "")

    @cached_property
    def _shared(self) -> dict[Path, list[Place]]:
        """The places in each film. An episode whose row cannot be used is left out here, and skipped when read."""
        shared: dict[Path, list[Place]] = {}
        for episode in self.episodes:
            with suppress(DatasetError):
                if (place := self._place(episode)) is not None:
                    shared.setdefault(self._film_file(episode, place.episode), []).append(place)
        return shared

    def _place(self, episode: dict[str, Any]) -> Place | None:
        """What meta says of an episode's place in its film; None where it has a film of its own."""
        where = f"videos/{self.camera}"
        start, end = (_number(episode, f"{where}/{key}_timestamp") for key in ("from", "to"))
        index, length = int(episode["episode_index"]), _number(episode, "length")
        return None if start is None else Place(index, start, end, length)

    def _film_file(self, episode: dict[str, Any], index: int) -> Path:
        template = str(self.info.get("video_path") or self._paths[1])
        return self._file(template, episode, index, f"videos/{self.camera}", self.camera)

    def _file(self, template: str, episode: dict[str, Any], index: int, where: str, camera: str = "") -> Path:
        """A path template of info.json filled for one episode."""
        try:
            return self.path / template.format(
                episode_chunk=index // int(self.info.get("chunks_size") or 1000),
                episode_index=index,
                chunk_index=int(_number(episode, f"{where}/chunk_index") or 0),
                file_index=int(_number(episode, f"{where}/file_index") or 0),
                video_key=camera,
                total_episodes=self.info.get("total_episodes", 0),
            )
        except (KeyError, IndexError, ValueError, OverflowError) as error:
            raise DatasetError(f"info.json: the path {template!r} cannot be filled: {error}") from error


def _is_depth(feature: dict[str, Any]) -> bool:
    """Whether the dataset itself says that a camera holds depth maps."""
    about = [feature.get(key) for key in ("info", "video_info")]
    return any(bool(d.get(k)) for d in about if isinstance(d, dict) for k in ("video.is_depth_map", "is_depth_map"))


def _number(episode: dict[str, Any], key: str) -> float | None:
    """A number of an episode's row; None where there is none (merged datasets leave NaN). Raises DatasetError."""
    value = episode.get(key)
    try:
        return None if value is None or math.isnan(value) else float(value)
    except TypeError:
        raise DatasetError(f"meta's {key} is {value!r}, no number") from None


def _meta(path: Path, version: str, camera: str, reading: Reading) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """A row an episode, in order, and the tasks by their index."""
    rows = _jsonl(path / "meta" / "episodes.jsonl") if version == "2" else _episodes_v3(path, camera, reading)
    try:
        episodes = {int(row["episode_index"]): row for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: meta lists an episode without a number (episode_index)") from error
    if len(episodes) < len(rows):
        reading.chose(f"meta lists {len(rows) - len(episodes)} episodes twice; the later entry is taken")
    return [episodes[index] for index in sorted(episodes)], _tasks(path, version)


def _tasks(path: Path, version: str) -> dict[int, str]:
    """Empty without a file: episodes may name their tasks themselves."""
    file = path / "meta" / ("tasks.jsonl" if version == "2" else "tasks.parquet")
    if not file.is_file():
        return {}
    if version == "2":
        return {int(row["task_index"]): text_of(row["task"]) for row in _jsonl(file)}
    table = read_table(file)
    texts = table.get("task") or table.get("__index_level_0__") or []
    return {int(i): text_of(text) for i, text in zip(table.get("task_index", []), texts)}


def _episodes_v3(path: Path, camera: str, reading: Reading) -> list[dict[str, Any]]:
    """Without the statistics of every episode, which are most of the file."""

    def wanted(column: str) -> bool:
        return column in ("episode_index", "tasks", "length") or column.startswith(("data/", f"videos/{camera}/"))

    rows: list[dict[str, Any]] = []
    folder = path / "meta" / "episodes"
    for file in sorted(f for f in folder.rglob("*.parquet") if not is_system(f, folder)):
        try:
            table = read_table(file, wanted)
        except DatasetError as error:
            reading.skip(str(file.relative_to(path)), error)
            continue
        rows.extend(dict(zip(table, values)) for values in zip(*table.values()))
    return rows


def _picture(root: Path, cell: Any) -> npt.NDArray[np.uint8]:
    """An image column holds {"bytes": ..., "path": ...}."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") else root / str(cell.get("path"))
    return np.asarray(load_image(cell), dtype=np.uint8)


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise DatasetError(f"{path} holds no JSON object")
    return loaded


def _jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        lines = read_text(path).split("\n")  # not splitlines(): JSON may hold U+2028 as it is
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
