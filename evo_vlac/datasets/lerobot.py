"""LeRobot datasets, versions 2.x (a file per episode) and 3.x (episodes chained in larger files).

meta/info.json                             fps, features, data_path, video_path
meta/episodes.jsonl, tasks.jsonl           2.x: length and tasks of each episode
meta/episodes/**/*.parquet, tasks.parquet  3.x: also where in which file an episode lies
data/..., videos/...                       steps, pictures
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory, flags, pick_camera
from evo_vlac.errors import DatasetError
from evo_vlac.images import load_image
from evo_vlac.video.reader import read_video
from evo_vlac.video.thinning import sample_indices

_DONE = ("next.success", "success", "is_success")


def is_lerobot(path: Path) -> bool:
    """Whether the folder has LeRobot's layout."""
    return (path / "meta" / "info.json").is_file()


def read_lerobot(path: Path, options: DatasetOptions) -> Iterator[Trajectory]:
    """The episodes, in order."""
    dataset = _Dataset.open(path, options.camera)
    for episode in dataset.episodes:
        yield dataset.trajectory(episode, options)


@dataclass(frozen=True, slots=True)
class _Dataset:
    path: Path
    info: dict[str, Any]
    camera: str
    episodes: list[dict[str, Any]]
    tasks: dict[int, str]

    @staticmethod
    def open(path: Path, camera: str | None) -> _Dataset:
        info = _json(path / "meta" / "info.json")
        features = info.get("features", {})
        cameras = [k for k, v in features.items() if v.get("dtype") in ("video", "image")]
        version = str(info.get("codebase_version", "v2.1")).lstrip("v").split(".")[0]
        if version == "2":
            episodes = _jsonl(path / "meta" / "episodes.jsonl")
            tasks = {int(row["task_index"]): str(row["task"]) for row in _jsonl(path / "meta" / "tasks.jsonl")}
        elif version == "3":
            episodes, tasks = _episodes_v3(path), _tasks_v3(path)
        else:
            raise DatasetError(f"{path}: LeRobot version {info.get('codebase_version')} is not read; 2.x and 3.x are")
        if not episodes:
            raise DatasetError(f"{path}: meta names no episodes")
        return _Dataset(path, info, pick_camera(str(path), cameras, camera), episodes, tasks)

    def trajectory(self, episode: dict[str, Any], options: DatasetOptions) -> Trajectory:
        """One episode with its pictures."""
        index = int(episode["episode_index"])
        name = f"{self.path.name}/episode_{index:06d}"
        table = self._table(episode, index)
        fps = float(self.info.get("fps") or 5.0)
        if self.info["features"][self.camera]["dtype"] == "video":
            frames = self._video(episode, index, fps)
        else:
            frames = [_picture(self.path, cell) for cell in table[self.camera]]
        done = next((flags(table[key], len(frames)) for key in _DONE if key in table), None)
        keep = sample_indices(fps, options.fps or fps, len(frames))
        whole = Trajectory(
            name=name,
            task=options.task or self._task(episode, table),
            frames=frames,
            fps=min(fps, options.fps or fps),
            dones=done,
            success=None if done is None else any(done),
        )
        return whole.take(keep)

    def _task(self, episode: dict[str, Any], table: dict[str, list[Any]]) -> str:
        named = episode.get("tasks")
        if named is not None and len(named):
            return str(named if isinstance(named, str) else named[0])
        first = table.get("task_index") or [None]
        return self.tasks.get(int(first[0]), "") if first[0] is not None else ""

    def _table(self, episode: dict[str, Any], index: int) -> dict[str, list[Any]]:
        template = str(self.info.get("data_path", "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"))
        file = self.path / _fill(template, self.info, episode, index, "data")
        table = _parquet(file)
        if "episode_index" not in table:
            return table
        mine = [i for i, value in enumerate(table["episode_index"]) if int(value) == index]
        return {key: [column[i] for i in mine] for key, column in table.items()}

    def _video(self, episode: dict[str, Any], index: int, fps: float) -> list[npt.NDArray[np.uint8]]:
        template = str(self.info["video_path"])
        file = self.path / _fill(template, self.info, episode, index, f"videos/{self.camera}", self.camera)
        frames = read_video(file).frames
        start = episode.get(f"videos/{self.camera}/from_timestamp")
        if start is None:
            return list(frames)
        first = round(float(start) * fps)
        length = int(episode.get("length") or len(frames) - first)
        part = list(frames[first : first + length])
        if not part:
            raise DatasetError(f"{file}: episode {index} should start at {start} s, after the video's end")
        return part


def _fill(
    template: str, info: dict[str, Any], episode: dict[str, Any], index: int, where: str, camera: str = ""
) -> str:
    """A path template of info.json filled for one episode."""
    try:
        return template.format(
            episode_chunk=index // int(info.get("chunks_size") or 1000),
            episode_index=index,
            chunk_index=int(episode.get(f"{where}/chunk_index", 0)),
            file_index=int(episode.get(f"{where}/file_index", 0)),
            video_key=camera,
            total_episodes=info.get("total_episodes", 0),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise DatasetError(f"info.json: the path {template!r} cannot be filled: {error}") from error


def _episodes_v3(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for file in sorted((path / "meta" / "episodes").rglob("*.parquet")):
        table = _parquet(file)
        rows.extend({key: column[i] for key, column in table.items()} for i in range(len(table["episode_index"])))
    return sorted(rows, key=lambda row: int(row["episode_index"]))


def _tasks_v3(path: Path) -> dict[int, str]:
    table = _parquet(path / "meta" / "tasks.parquet")
    texts = table.get("task") or table.get("__index_level_0__") or []
    return {int(i): str(text) for i, text in zip(table.get("task_index", []), texts)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(f"reading {path} needs pyarrow (pip install pyarrow)") from error
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    try:
        columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is not a parquet file that can be read: {error}") from error
    return columns


def _picture(root: Path, cell: Any) -> npt.NDArray[np.uint8]:
    """An image column holds {"bytes": ..., "path": ...}."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") else root / str(cell.get("path"))
    return np.asarray(load_image(cell), dtype=np.uint8)


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise DatasetError(f"{path} holds no JSON object")
    return loaded


def _jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
