"""What it takes to read a film of many episodes, as LeRobot 3 keeps them: seconds, memory, bytes read.

python studies/long_film.py make FOLDER                 a dataset of 100 episodes in one film of 200 MB
python studies/long_film.py read FOLDER --limit 5       one JSON line; with another commit's code by PYTHONPATH

The film is noise at 16 Mbit/s, 640 x 480, 30 frames a second; an episode lasts a second, and every second frame is a
key frame, as in LeRobot. Memory is the highest resident size over that before the dataset was opened.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evo_vlac.datasets import DatasetOptions, open_dataset

CAMERA = "observation.images.top"
FPS, LENGTH, EPISODES = 30, 30, 100
WIDTH, HEIGHT, BITS = 640, 480, 16_000_000
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILM = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def make(folder: Path) -> None:
    """Writes the dataset."""
    film = folder / FILM.format(video_key=CAMERA, chunk_index=0, file_index=0)
    for path in (film.parent, folder / "data/chunk-000", folder / "meta/episodes/chunk-000"):
        path.mkdir(parents=True)
    with av.open(str(film), "w") as container:
        options = {"preset": "ultrafast", "g": "2"}
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", BITS
        for picture in _noise():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    rows = {"episode_index": np.repeat(range(EPISODES), LENGTH), "task_index": [0] * EPISODES * LENGTH}
    pq.write_table(pa.table(rows), folder / DATA.format(chunk_index=0, file_index=0))
    index = {
        "episode_index": list(range(EPISODES)),
        "tasks": [["lift the cube"]] * EPISODES,
        "length": [LENGTH] * EPISODES,
        f"videos/{CAMERA}/from_timestamp": [e * LENGTH / FPS for e in range(EPISODES)],
        f"videos/{CAMERA}/to_timestamp": [(e + 1) * LENGTH / FPS for e in range(EPISODES)],
    }
    pq.write_table(pa.table(index), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["lift the cube"]}), folder / "meta/tasks.parquet")
    features = {CAMERA: {"dtype": "video", "shape": [HEIGHT, WIDTH, 3]}}
    info = {"codebase_version": "v3.0", "fps": FPS, "data_path": DATA, "video_path": FILM, "features": features}
    (folder / "meta/info.json").write_text(json.dumps(info))
    sys.stdout.write(f"{film}: {film.stat().st_size / 1e6:.0f} MB\n")


def _noise() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(EPISODES * LENGTH):
        coarse = rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        yield np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1))


def read(folder: Path, limit: int | None) -> None:
    """Reads episodes and says what that took."""
    before, bytes_before, started = _peak(), _read_bytes(), time.monotonic()
    lengths = [len(trajectory) for trajectory in open_dataset(folder, options=DatasetOptions(limit=limit))]
    found = {
        "episodes": len(lengths),
        "frames": sum(lengths),
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time(), 1),
        "memory_mb": round((_peak() - before) / 1e3),
        "read_mb": round((_read_bytes() - bytes_before) / 1e6),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _read_bytes() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def main() -> None:
    """Makes the dataset, or reads it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "read"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="episodes at most")
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder)
    else:
        read(options.folder, options.limit)


if __name__ == "__main__":
    main()
