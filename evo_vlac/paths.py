"""Paths as people give them: the home folder, and folders that a system made for itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYSTEM = frozenset({"$recycle.bin", "__macosx", "@eadir", "lost+found", "system volume information"})


def from_home(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder in the place of ``~`` at its beginning: in quotes and in files no shell puts it
    there. ``~backup`` is a name as any other, not another user's home."""
    first, *rest = (given := Path(path)).parts or ("",)
    return Path.home().joinpath(*rest) if first == "~" else given


def is_system(path: Path, root: Path) -> bool:
    """Whether a file below ``root`` is not somebody's data: hidden, or in a folder that is (``.Trash-1000``,
    ``.ipynb_checkpoints``), in a recycle bin, or what macOS and Synology put beside files."""
    return any(part.startswith(".") or part.lower() in _SYSTEM for part in path.relative_to(root).parts)


@contextmanager
def without_patterns(file: Path) -> Iterator[Path]:
    """A path to the file for a library that takes names for patterns (``[new]``, ``a*``): a link from a temporary
    folder where its own path would be one."""
    if not any(mark in str(file.absolute()) for mark in "[]{}*?"):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="evo-vlac-") as folder:
        link = Path(folder) / file.name
        link.symlink_to(file.absolute())
        yield link
