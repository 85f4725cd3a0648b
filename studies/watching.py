"""Looks at processes' memory in a thread of its own, while something else is done."""

from __future__ import annotations

import abc
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Watching(abc.ABC):
    """Use as a context manager around what is watched; :meth:`watch` runs until ``left`` is set."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self._thread = threading.Thread(target=self.watch)

    @abc.abstractmethod
    def watch(self) -> None:
        """In the thread."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left.set()
        self._thread.join()


def rss(pid: int) -> dict[str, int]:
    """Bytes in memory: ``RssAnon``, ``RssFile``, ``RssShmem``. Raises OSError when the process is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = (line.partition(":") for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, _, value in fields if name.startswith("Rss")}
