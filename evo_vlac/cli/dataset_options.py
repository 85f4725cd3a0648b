"""What ``screen`` and ``evaluate`` share: choosing a dataset and how it is scored, and counting its trajectories."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from evo_vlac.critic import REF_NUM
from evo_vlac.datasets import FORMATS, Dataset, DatasetOptions, open_dataset

DATASET_HELP = "LeRobot folder, HDF5 file or folder of them, folder of videos or pictures with a task file, video"
CAMERA_HELP = "camera name or part of it (default: the first colour camera that is no wrist camera)"


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """The dataset, and how its trajectories are scored."""
    parser.add_argument("dataset", help=DATASET_HELP)
    parser.add_argument("--format", default="auto", choices=FORMATS, help="its layout (default: by what is there)")
    parser.add_argument("--camera", help=CAMERA_HELP)
    parser.add_argument("--task", help="replaces the dataset's own instructions")
    parser.add_argument("--limit", type=int, help="trajectories at most")
    parser.add_argument("--fps", type=float, help="frames a second at most (default: all)")
    parser.add_argument("--skip", type=int, default=5, help="frames between the images of a pair (default: 5)")
    parser.add_argument("--mode", default="simple", help="critics to values: simple, mix_f, mirror (default: simple)")
    parser.add_argument("--rich", action="store_true", help="decimals from the token probabilities")
    parser.add_argument("--ref-num", type=int, default=REF_NUM, help="reference frames shown (default: %(default)s)")


def trajectories(options: argparse.Namespace) -> Dataset:
    """The trajectories of the chosen dataset."""
    return open_dataset(
        options.dataset, options.format, DatasetOptions(options.camera, options.task, options.limit, options.fps)
    )


def reading_text(dataset: Dataset) -> str:
    """Lines below a table: what was chosen by guess, how many could not be read, and which; empty without any."""
    lines = [""] + [f"chosen: {what}" for what in dataset.reading.chosen]
    if dataset.skipped:
        lines.append(f"{len(dataset.skipped)} skipped, since they cannot be read:")
        lines += [f"  {one.name}: {one.reason}" for one in dataset.skipped]
    return "\n".join(lines) if len(lines) > 1 else ""


@contextlib.contextmanager
def count(title: str) -> Iterator[Any]:
    """Counts trajectories on a terminal."""
    from tqdm import tqdm

    with tqdm(desc=title, unit=" trajectories", disable=not sys.stderr.isatty(), leave=False) as shown:
        yield lambda: shown.update(1)
