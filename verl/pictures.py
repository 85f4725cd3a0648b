"""The pictures of many samples, where they lie: an update's are the bulk of it, and nobody needs them in one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class Pictures:
    """(N, cameras, H, W, 3) uint8, a row a sample, each a view of an array that somebody made.

    Positions, as of an array, give the Pictures of those and copy nothing; ``np.asarray`` copies. Rows may be absent in
    a process that does not need them: reading one is an error.
    """

    def __init__(self, rows: Sequence[np.ndarray | None], shape: tuple[int, ...]) -> None:
        """``shape``: of a row."""
        self.rows, self.shape = list(rows), (len(rows), *shape)

    @classmethod
    def of(cls, arrays: Iterable[np.ndarray | Pictures]) -> Pictures:
        """The rows of all ``arrays``, one array after the other."""
        given = list(arrays)
        rows = [row for array in given for row in (array.rows if isinstance(array, Pictures) else array)]
        return cls(rows, tuple(given[0].shape[1:]))

    @classmethod
    def absent(cls, like: np.ndarray | Pictures) -> Pictures:
        """As many as ``like`` has, and none of them there."""
        return cls([None] * like.shape[0], tuple(like.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:]))

    def __getitem__(self, index: Any) -> Any:
        """A row for a number, else Pictures."""
        if isinstance(index, int | np.integer):
            return self._there(self.rows[index])
        if isinstance(index, slice):
            return Pictures(self.rows[index], self.shape[1:])
        return Pictures([self.rows[i] for i in np.asarray(index)], self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not self.rows:
            return np.zeros(self.shape, dtype or np.uint8)
        together = np.stack([self._there(row) for row in self.rows])
        return together if dtype is None else together.astype(dtype, copy=False)

    @staticmethod
    def _there(row: np.ndarray | None) -> np.ndarray:
        if row is None:
            raise LookupError("a picture that this process was not given")
        return row
