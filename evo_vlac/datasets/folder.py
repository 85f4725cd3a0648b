"""A folder of videos (or of folders of pictures), and a file with the task of each.

tasks.json     {"a.mp4": "lift the cube", "b.mp4": {"task": "...", "success": false}}
tasks.jsonl    {"video": "a.mp4", "task": "...", "success": true}   a line each
tasks.csv      video,task,success
task.txt       one task for all of them
a.txt          beside a.mp4: its own task
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError, VideoError
from evo_vlac.text_files import read_text
from evo_vlac.video.reader import PICTURES, VIDEOS, natural, read_video

TASK_FILES = ("tasks.json", "tasks.jsonl", "tasks.csv", "task.txt")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "success"}), frozenset({"0", "false", "no", "failure", "fail"})


def is_folder(path: Path) -> bool:
    """Whether there is a video, or a folder of pictures, in it."""
    return path.is_dir() and any(True for _ in _sources(path))


def read_folder(path: Path, options: DatasetOptions) -> Iterator[Trajectory]:
    """The trajectories, in the natural order of their names. A single video is a dataset of one."""
    sources = [path] if path.is_file() else list(_sources(path))
    table = _table(path if path.is_dir() else path.parent)
    for source in sources:
        row = table.get(source.name) or table.get(source.stem) or {}
        task = options.task or str(row.get("task") or "") or _own_task(source) or str(table.get("", {}).get("task", ""))
        if not task.strip():
            raise DatasetError(f"{source}: no task for it; give --task, or one of {', '.join(TASK_FILES)} beside it")
        try:
            video = read_video(source, fps=options.fps)
        except VideoError as error:
            raise DatasetError(str(error)) from error
        success = row.get("success")
        yield Trajectory(
            source.name, task, video.frames, video.fps, None, _flag(source, success), str(row.get("kind", ""))
        )


def _sources(path: Path) -> Iterator[Path]:
    for entry in sorted(path.iterdir(), key=natural):
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() in VIDEOS or (
            entry.is_dir() and any(child.suffix.lower() in PICTURES for child in entry.iterdir())
        ):
            yield entry


def _table(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of the task file by video name; the row "" holds for all."""
    for name in TASK_FILES:
        file = folder / name
        if not file.is_file():
            continue
        text = read_text(file)
        try:
            return _parse(name, text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{file} cannot be read: {error or type(error).__name__}") from error
    return {}


def _parse(name: str, text: str) -> dict[str, dict[str, Any]]:
    if name == "task.txt":
        return {"": {"task": text.strip()}}
    if name == "tasks.json":
        loaded = json.loads(text)
        if isinstance(loaded, str):
            return {"": {"task": loaded}}
        return {key: {"task": value} if isinstance(value, str) else dict(value) for key, value in loaded.items()}
    rows: list[dict[str, Any]]
    if name == "tasks.jsonl":
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        rows = [dict(row) for row in csv.DictReader(io.StringIO(text))]
    return {str(row["video"]): row for row in rows}


def _own_task(source: Path) -> str:
    beside = source.with_suffix(".txt")
    return read_text(beside).strip() if beside.is_file() else ""


def _flag(source: Path, value: Any) -> bool | None:
    if value is None or value == "":
        return None
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise DatasetError(f"{source}: success is {value!r}; allowed: true or false")
    return text in _TRUE
