"""Opens a dataset; its format is guessed unless it is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from evo_vlac.datasets.folder import is_folder, read_folder
from evo_vlac.datasets.hdf5 import hdf5_files, is_hdf5, read_hdf5
from evo_vlac.datasets.lerobot import is_lerobot, read_lerobot
from evo_vlac.datasets.reading import Reading, Skipped
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.paths import from_home
from evo_vlac.video.reader import VIDEOS, is_picture

_READERS = {"lerobot": read_lerobot, "hdf5": read_hdf5, "folder": read_folder}
FORMATS = ("auto", *_READERS)


class Dataset(Iterator[Trajectory]):
    """Trajectories, one at a time. Those that cannot be read are in ``skipped``, with the reason.

    Raises DatasetError at the end where all of them are.
    """

    def __init__(self, trajectories: Iterator[Trajectory], reading: Reading) -> None:
        self.reading = reading
        self._trajectories = trajectories
        self._empty = True

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read up to now."""
        return self.reading.skipped

    def __next__(self) -> Trajectory:
        try:
            found = next(self._trajectories)
        except StopIteration:
            if self._empty and self.skipped:
                count = f" ({len(self.skipped)} cannot be read, this is the first)" if len(self.skipped) > 1 else ""
                raise DatasetError(f"{self.skipped[0].reason}{count}") from None
            raise
        self._empty = False
        return found


def open_dataset(path: str | Path, format: str = "auto", options: DatasetOptions | None = None) -> Dataset:
    """The trajectories of a dataset. Raises DatasetError naming the path and what was looked for."""
    options = options or DatasetOptions()
    if format not in FORMATS:
        raise OptionError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    if not str(path):
        raise OptionError("the path of the dataset is empty (a variable without a value?)")
    root = from_home(path)
    if not root.exists():
        raise DatasetError(f"no dataset at {root}")
    reading = Reading()
    reader = _READERS[guess_format(root) if format == "auto" else format]
    if format == "auto" and reader is not read_folder and is_folder(root):
        reading.chose(f"{root} also has films or pictures, which are left out (--format folder)")
    return Dataset(islice(reader(root, options, reading), options.limit), reading)


def open_datasets(
    paths: Sequence[Path], options: DatasetOptions | None = None, tasks: Sequence[str] = (), quiet: bool = False
) -> Dataset:
    """The trajectories of several datasets; ``tasks`` gives one instruction for each, or none to use their own.

    ``quiet``: guesses and what is skipped were said by an earlier reading.
    """
    if tasks and len(tasks) != len(paths):
        raise DatasetError(f"{len(tasks)} tasks for {len(paths)} datasets; give one for each, or none")
    options, reading = options or DatasetOptions(), Reading(quiet)

    def every() -> Iterator[Trajectory]:
        for index, path in enumerate(map(from_home, paths)):
            if not path.exists():
                raise DatasetError(f"no dataset at {path}")
            own = replace(options, task=tasks[index]) if tasks else options
            yield from _READERS[guess_format(path)](path, own, reading)

    return Dataset(islice(every(), options.limit), reading)


def is_dataset(path: Path) -> bool:
    """Whether it holds several trajectories: it is neither a film nor a folder of pictures."""
    if path.suffix.lower() in VIDEOS or not path.exists() or (path.is_dir() and any(map(is_picture, path.iterdir()))):
        return is_lerobot(path)
    return is_lerobot(path) or is_hdf5(path) or is_folder(path) or _has_hdf5(path)


def guess_format(root: Path) -> str:
    """The format of the dataset at a path."""
    if is_lerobot(root):
        return "lerobot"
    if is_hdf5(root) or _has_hdf5(root):
        return "hdf5"
    if root.suffix.lower() in VIDEOS or is_folder(root):
        return "folder"
    raise DatasetError(
        f"{root} is none of: a LeRobot dataset (meta/info.json), an HDF5 file or a folder of them, a folder of videos"
        " or pictures"
    )


def _has_hdf5(path: Path) -> bool:
    return path.is_dir() and any(True for _ in hdf5_files(path))
