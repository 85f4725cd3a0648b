"""Small LeRobot datasets, and ways in which they are wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evo_vlac.video import write_video

TOP = "observation.images.top"
DATA3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
DATA2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def shade(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def png(value: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(shade(value)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write_parquet(path: Path, table: dict[str, Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, **options)


def write_info(root: Path, version: str, features: dict[str, Any], **changes: Any) -> None:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    paths = (DATA2, VIDEO2) if version == "v2.1" else (DATA3, VIDEO3)
    info = {"codebase_version": version, "fps": 10, "data_path": paths[0], "video_path": paths[1], "features": features}
    (root / "meta/info.json").write_text(json.dumps({**info, **changes}))


def images3(root: Path, files: Sequence[Sequence[int]], meta: dict[str, Any] | None = None, **options: Any) -> Path:
    """Version 3 with pictures in its tables: four frames an episode, of shade 10 * episode + frame. ``files``: the
    episodes of each data file; the index says that all lie in the first."""
    for number, episodes in enumerate(files):
        rows = [(e, f) for e in episodes for f in range(4)]
        table = {
            TOP: [png(10 * e + f) for e, f in rows],
            "episode_index": [e for e, _ in rows],
            "frame_index": [f for _, f in rows],
            "task_index": [0] * len(rows),
        }
        write_parquet(root / f"data/chunk-000/file-{number:03d}.parquet", table, **options)
    every = sorted(e for episodes in files for e in episodes)
    index = {"episode_index": every, "length": [4] * len(every), "data/chunk_index": [0] * len(every)}
    index = {**index, "data/file_index": [0] * len(every), "tasks": [["lift it"]] * len(every), **(meta or {})}
    write_parquet(root / "meta/episodes/chunk-000/file-000.parquet", index)
    write_info(root, "v3.0", {TOP: {"dtype": "image"}})
    return root


def films3(root: Path, episodes: int = 10, length: int = 6, **meta: Any) -> Path:
    """Version 3 with one film of all episodes; frame i of the film has shade 2 * i."""
    count = range(episodes)
    table = {"episode_index": np.repeat(count, length), "task_index": [0] * (episodes * length)}
    write_parquet(root / "data/chunk-000/file-000.parquet", table)
    index = {
        "episode_index": list(count),
        "tasks": [["lift it"]] * episodes,
        "length": [length] * episodes,
        f"videos/{TOP}/from_timestamp": [e * length / 10 for e in count],
        f"videos/{TOP}/to_timestamp": [(e + 1) * length / 10 for e in count],
        "stats/observation.state/mean": [[0.0] * 64] * episodes,
    }
    write_parquet(root / "meta/episodes/chunk-000/file-000.parquet", {**index, **meta})
    write_video(root / f"videos/{TOP}/chunk-000/file-000.mp4", [shade(2 * i) for i in range(episodes * length)], 10)
    write_info(root, "v3.0", {TOP: {"dtype": "video"}})
    return root


def episode2(
    root: Path,
    pictures: int = 10,
    rows: int = 10,
    features: dict[str, Any] | None = None,
    fps: float = 10,
    **columns: Any,
) -> Path:
    """Version 2.1 with one episode whose film has ``pictures`` frames, picture i of shade 9 * i, at ``fps``."""
    features = features or {TOP: {"dtype": "video"}}
    for key in features:
        frames = [shade(min(9 * i, 255)) for i in range(pictures)]
        write_video(root / f"videos/chunk-000/{key}/episode_000000.mp4", frames, fps)
    table = {"episode_index": [0] * rows, "task_index": [0] * rows, **columns}
    write_parquet(root / "data/chunk-000/episode_000000.parquet", table)
    write_info(root, "v2.1", features)
    (root / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "length": rows}))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "lift it"}))
    return root
