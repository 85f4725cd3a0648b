"""Parquet tables, read by row group and by column: a file of a hundred episodes is not read for one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from evo_vlac.broken_files import unreadable
from evo_vlac.errors import DatasetError
from evo_vlac.paths import is_system

_EPISODE, _FRAME = "episode_index", "frame_index"

Bounds = list[tuple[int, int]]
"""The lowest and highest episode of each row group."""


def read_table(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, list[Any]]:
    """The wanted columns of a file, whole. Raises DatasetError naming it."""
    with _opened(path) as file:
        names = [name for name in file.schema_arrow.names if wanted(name)]
        columns: dict[str, list[Any]] = file.read(columns=names).to_pydict()
        return columns


class EpisodeRows:
    """The rows of one episode after the other, from a folder of data files.

    What lies where is read from the files themselves, since an index beside them may be stale: row groups carry the
    lowest and highest episode in them. One row group's wanted columns are in memory.
    """

    def __init__(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        self.folder = folder
        self._wanted = wanted
        self._bounds: dict[Path, Bounds] = {}
        self._last: tuple[Path, int] | None = None
        self._table: Any = None

    def rows(self, file: Path, episode: int, length: int | None) -> tuple[Any, bool]:
        """A pyarrow table, and whether its rows lay elsewhere than in ``file``, where they should be.

        ``length``: how many there should be, where that is known. Raises DatasetError where there are none.
        """
        failure: DatasetError | None = None
        try:
            found = self._of(file, episode)
            if found is not None and (length is None or found.num_rows == length):
                return found, False
        except DatasetError as error:
            found, failure = None, error
        every = self._everywhere(episode)
        if every is not None and (found is None or every.num_rows > found.num_rows):
            return every, True
        if found is None:
            raise failure or DatasetError(f"{file} has no rows of episode {episode}, nor has another file")
        return found, False

    def _everywhere(self, episode: int) -> Any:
        import pyarrow as pa

        parts = []
        for file in sorted(f for f in self.folder.rglob("*.parquet") if not is_system(f, self.folder)):
            try:
                parts.append(self._of(file, episode, alone=False))
            except DatasetError:  # it is named where it is needed
                continue
        parts = [part for part in parts if part is not None]
        return _in_order(pa.concat_tables(parts)) if parts else None

    def _of(self, file: Path, episode: int, alone: bool = True) -> Any:
        """The episode's rows in one file, in the order of their frames; None without any. ``alone``: a file without
        episode numbers is taken to hold this one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if file not in self._bounds:
            self._bounds[file] = _bounds(file)
        parts = []
        for group, (low, high) in enumerate(self._bounds[file]):
            if low <= episode <= high:
                table = self._group(file, group)
                if _EPISODE in table.schema.names:
                    parts.append(table.filter(pc.equal(table[_EPISODE], episode)))
                elif alone:
                    parts.append(table)
        whole = pa.concat_tables(parts) if parts else None
        return _in_order(whole) if whole is not None and whole.num_rows else None

    def _group(self, file: Path, group: int) -> Any:
        if self._last != (file, group):
            self._table = None
            with _opened(file) as opened:
                names = [name for name in opened.schema_arrow.names if name in (_EPISODE, _FRAME) or self._wanted(name)]
                self._table = opened.read_row_group(group, columns=names)
            self._last = (file, group)
        return self._table


def _in_order(table: Any) -> Any:
    """The rows in the order of their frames."""
    if _FRAME not in table.schema.names or all(a < b for a, b in pairwise(table[_FRAME].to_pylist())):
        return table
    return table.sort_by(_FRAME)


def _bounds(path: Path) -> Bounds:
    """Of statistics in the file's footer; of the column itself without them; anything where there is no such column."""
    with _opened(path) as file:
        names = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
        groups = range(file.metadata.num_row_groups)
        if _EPISODE not in names:
            return [(-(2**62), 2**62) for _ in groups]
        found: Bounds = []
        for group in groups:
            statistics = file.metadata.row_group(group).column(names.index(_EPISODE)).statistics
            if statistics is not None and statistics.has_min_max:
                found.append((int(statistics.min), int(statistics.max)))
            else:
                episodes = file.read_row_group(group, columns=[_EPISODE])[_EPISODE].to_pylist()
                found.append((min(episodes, default=0), max(episodes, default=-1)))
        return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """pyarrow's ParquetFile; what goes wrong with it inside the block is a DatasetError too."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(f"reading {path} needs pyarrow (pip install pyarrow)") from error
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    try:
        with pq.ParquetFile(path.absolute()) as file:  # pyarrow takes a folder ~name for a user's home
            yield file
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(unreadable(path, "a parquet file", error)) from error
