"""Reference trajectories, shown with every pair: one for all tasks, or one of each.

reference.folder/*.png                              one for every task, images in the order of their names
reference.folder/NAME/*.png, NAME/task.txt          one of each task; task.txt holds its instruction

A task without a reference of its own is asked without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from evo_vlac.engine import Image
from evo_vlac.paths import from_home, is_system
from evo_vlac.queries import reference_indices
from evo_vlac.text_files import read_text
from sidecar.config import ReferenceConfig
from sidecar.errors import ConfigError

TASK_FILE = "task.txt"
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class References:
    """Pictures of all references, and whose they are.

    Attributes:
        pictures: uint8 (H, W, 3) each, in one row: a picture's number in it is its name for caches and replicas.
        by_task: numbers of a task's pictures, by :func:`task_key`; empty: all pictures are every task's.
    """

    pictures: tuple[Image, ...] = ()
    by_task: Mapping[str, range] = field(default_factory=dict)

    def of(self, task: str) -> range:
        """Numbers of the pictures to be shown for this instruction, in order; none where it has no reference."""
        if not self.by_task:
            return range(len(self.pictures))
        return self.by_task.get(task_key(task), range(0))


def task_key(task: str) -> str:
    """What two spellings of an instruction have in common: neither case nor blanks nor a full stop tell tasks apart."""
    return " ".join(task.casefold().split()).rstrip(" .")


def load_reference(config: ReferenceConfig) -> References:
    """``config.count`` of each reference's images, evenly spread; none where no folder is named.

    Raises:
        ConfigError: folder, images or instructions are missing or cannot be read, or two references are of one task.
    """
    if config.folder is None:
        return References()
    folder = from_home(config.folder)
    if not folder.is_dir():
        raise ConfigError(f"reference.folder={folder}: no such folder")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not is_system(path, folder))
    tasks = [path for path in inside if (path / TASK_FILE).is_file()]
    if not tasks and (_files(folder) or not inside):
        return References(_images(folder, config.count))
    if tasks and _files(folder):
        raise ConfigError(f"reference.folder={folder}: images beside folders; allowed are images, or a folder a task")
    pictures: list[Image] = []
    by_task: dict[str, range] = {}
    for path in inside:
        key = task_key(_instruction(path))
        if key in by_task:
            raise ConfigError(f"reference.folder={folder}: {path.name} and another folder are both of the task {key!r}")
        own = _images(path, config.count)
        by_task[key] = range(len(pictures), len(pictures) + len(own))
        pictures += own
    return References(tuple(pictures), by_task)


def _instruction(folder: Path) -> str:
    file = folder / TASK_FILE
    if not file.is_file():
        raise ConfigError(f"reference.folder: {file} is missing; it holds the task's instruction")
    try:
        task = read_text(file).strip()
    except OSError as error:
        raise ConfigError(f"reference.folder: {file} cannot be read ({error})") from None
    if not task:
        raise ConfigError(f"reference.folder: {file} is empty; it holds the task's instruction")
    return task


def _files(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS and file.is_file())
    return sorted(file for file in files if not is_system(file, folder))


def _images(folder: Path, count: int) -> tuple[Image, ...]:
    files = _files(folder)
    if not files:
        raise ConfigError(f"reference.folder={folder}: no images in it ({', '.join(_ENDINGS)})")
    return tuple(_read(files[i]) for i in reference_indices(len(files), min(count, len(files))))


def _read(file: Path) -> Image:
    try:
        with PILImage.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"reference.folder: {file} cannot be read as an image ({error})") from None
