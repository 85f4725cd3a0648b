"""A folder of videos (or of folders of pictures), and a file with the task of each.

tasks.json     {"a.mp4": "lift the cube", "b.mp4": {"task": "...", "success": false}}
tasks.jsonl    {"video": "a.mp4", "task": "...", "success": true}   a line each
tasks.csv      video,task,success   also with ; or tabs
task.txt       one task for all of them
a.txt          beside a.mp4: its own task
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from evo_vlac.camera_names import colour_only
from evo_vlac.datasets.labels import truth_of
from evo_vlac.datasets.reading import Reading
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError
from evo_vlac.paths import is_system
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
    row = _row(table, source)
    task = options.task or str(row.get("task") or "") or _own_task(source) or str(table.get("", {}).get("task", ""))
    if not task.strip():
        names = list(filter(None, table))[:3]
        told = f" (its table names {', '.join(names)})" if names else ""
        raise DatasetError(f"{source}: no task for it{told}; give --task, or one of {', '.join(TASK_FILES)} beside it")
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
    entries = [entry for entry in sorted(path.iterdir(), key=natural) if not is_system(entry, path)]
    found = [entry for entry in entries if entry.suffix.lower() in VIDEOS or _has_pictures(entry)]
    return found or ([path] if _has_pictures(path) else [])


def _has_pictures(path: Path) -> bool:
    return path.is_dir() and any(is_picture(child) for child in path.iterdir())


def _table(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of the task file by video name; the row "" holds for all."""
    for name in TASK_FILES:
        file = _in_any_case(folder / name)
        if file is None:
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
        return {_key(key): {"task": value} if isinstance(value, str) else dict(value) for key, value in loaded.items()}
    rows: list[dict[str, Any]]
    rows = [json.loads(line) for line in text.split("\n") if line.strip()] if name == "tasks.jsonl" else _csv(text)
    return {_key(str(row["video"])): row for row in rows}


def _csv(text: str) -> list[dict[str, Any]]:
    """As spreadsheets write it: where a comma is the decimal sign they separate by ``;``, as "Unicode text" by tabs."""
    lines = text.split("\n")
    if lines[0].lower().startswith("sep="):
        lines = lines[1:]
    head = lines[0] if lines else ""
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO("\n".join(lines[1:])), delimiter=separator)
    names = [name.strip().strip('"').lower() for name in head.split(separator)]
    return [dict(zip(names, row)) for row in reader if any(row)]


def _key(name: str) -> str:
    """One spelling of a name: macOS stores é as two letters."""
    return unicodedata.normalize("NFC", name.strip())


def _row(table: dict[str, dict[str, Any]], source: Path) -> dict[str, Any]:
    """A film's row: by its name, with or without suffix; by the one path that ends in its name."""
    names = (_key(source.name), _key(source.stem))
    paths = [key for key in table if re.split(r"[/\\]", key)[-1] in names]
    own = [name for name in names if name in table] or (paths if len(paths) == 1 else [])
    return table[own[0]] if own else {}


def _own_task(source: Path) -> str:
    beside = _in_any_case(source.with_suffix(".txt"))
    return "" if beside is None else read_text(beside).strip()


def _in_any_case(file: Path) -> Path | None:
    """The file, also as ``TASK.TXT`` or ``name.TXT``; None where there is none."""
    spelt = (file, file.with_suffix(file.suffix.upper()), file.with_name(file.name.upper()))
    return next((one for one in spelt if one.is_file()), None)
