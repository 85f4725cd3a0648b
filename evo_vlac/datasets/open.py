"""Opens a dataset; its format is guessed unless it is named."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from evo_vlac.datasets.folder import is_folder, read_folder
from evo_vlac.datasets.hdf5 import is_hdf5, read_hdf5
from evo_vlac.datasets.lerobot import is_lerobot, read_lerobot
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.video.reader import VIDEOS

_READERS = {"lerobot": read_lerobot, "hdf5": read_hdf5, "folder": read_folder}
FORMATS = ("auto", *_READERS)


def open_dataset(path: str | Path, format: str = "auto", options: DatasetOptions | None = None) -> Iterator[Trajectory]:
    """The trajectories of a dataset, one at a time. Raises DatasetError naming the path and what was looked for."""
    options = options or DatasetOptions()
    if format not in FORMATS:
        raise OptionError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    root = Path(path).expanduser()
    if not root.exists():
        raise DatasetError(f"no dataset at {root}")
    reader = _READERS[guess_format(root) if format == "auto" else format]
    return islice(reader(root, options), options.limit)


def guess_format(root: Path) -> str:
    """The format of the dataset at a path."""
    if is_lerobot(root):
        return "lerobot"
    if is_hdf5(root) or (root.is_dir() and any(is_hdf5(file) for file in root.rglob("*"))):
        return "hdf5"
    if root.suffix.lower() in VIDEOS or is_folder(root):
        return "folder"
    raise DatasetError(
        f"{root} is none of: a LeRobot dataset (meta/info.json), an HDF5 file or a folder of them, a folder of videos"
    )
