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
from functools import partial
from pathlib import Path
from typing import Any

from evo_vlac.camera_names import colour_only
from evo_vlac.datasets.labels import truth_of
from evo_vlac.datasets.reading import Reading
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError
from evo_vlac.text_files import read_text
from evo_vlac.video.reader import VIDEOS, is_picture, natural, read_video

TASK_FILES = ("tasks.json", "tasks.jsonl", "tasks.csv", "task.txt")


def is_folder(path: Path) -> bool:
    """Whether there is a video, a folder of pictures, or a picture in it."""
    return path.is_dir() and bool(_sources(path))


def read_folder(path: Path, options: DatasetOptions, reading: Reading) -> Iterator[Trajectory]:
    """The trajectories, in the natural order of their names. A single video, and a folder of nothing but pictures, is a
    dataset of one. Those that cannot be read are skipped."""
    sources = [path] if path.is_file() else _sources(path)
    taken = colour_only([source.name for source in sources])
    if len(taken) < len(sources):
        left = next(source.name for source in sources if source.name not in taken)
        reading.chose(f"{len(sources) - len(taken)} that show no colour are left out, such as {left}", str(path))
    table = _table(path if path.is_dir() else path.parent)
    for number, source in enumerate(source for source in sources if source.name in taken):
        if options.wants(number, source.name, source.stem):
            found = reading.tried(str(source), partial(_trajectory, source, table, options))
            if found is not None:
                yield found


def _trajectory(source: Path, table: dict[str, dict[str, Any]], options: DatasetOptions) -> Trajectory:
    row = table.get(source.name) or table.get(source.stem) or {}
    task = options.task or str(row.get("task") or "") or _own_task(source) or str(table.get("", {}).get("task", ""))
    if not task.strip():
        raise DatasetError(f"{source}: no task for it; give --task, or one of {', '.join(TASK_FILES)} beside it")
    video = read_video(source, fps=options.fps)
    return Trajectory(
        name=source.name,
        task=task,
        frames=video.frames,
        fps=video.fps,
        success=truth_of(row.get("success"), f"{source}: success") if options.labels else None,
        kind=str(row.get("kind", "")) if options.labels else "unknown",
        source_frames=video.source_frames,
        seconds=video.seconds,
    )


def _sources(path: Path) -> list[Path]:
    """Videos and folders of pictures; the folder itself where it has nothing but pictures."""
    entries = [entry for entry in sorted(path.iterdir(), key=natural) if not entry.name.startswith(".")]
    found = [entry for entry in entries if entry.suffix.lower() in VIDEOS or _has_pictures(entry)]
    return found or ([path] if _has_pictures(path) else [])


def _has_pictures(path: Path) -> bool:
    return path.is_dir() and any(is_picture(child) for child in path.iterdir())


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
