"""multiprocessing.Pipe: one a worker, the frame pickled."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import numpy as np

MAX_WORKERS = 64


def missing() -> str | None:
    return None


class Host:
    def __init__(self, workers: int, shape: tuple[int, int, int], spin: bool) -> None:
        pairs = [multiprocessing.get_context("spawn").Pipe() for _ in range(workers)]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]

    def kit(self, worker: int) -> Any:
        return self.theirs[worker]

    def serve(self, running: Callable[[], bool]) -> None:
        open_ends = list(self.ours)
        while running():
            for each in connection.wait(open_ends, 0.1):
                assert isinstance(each, connection.Connection)
                try:
                    frame = each.recv()
                    ends = int(frame[0, 0, 0]) + int(frame[-1, -1, -1])
                    each.send((ends > 400, 0.5))
                except (EOFError, OSError):
                    open_ends.remove(each)

    def close(self) -> None:
        for each in self.ours + self.theirs:
            with contextlib.suppress(OSError):
                each.close()


class Client:
    def __init__(self, kit: Any, shape: tuple[int, int, int], spin: bool) -> None:
        self.pipe = kit

    def round_trip(self, frame: np.ndarray[Any, Any]) -> None:
        self.pipe.send(frame)
        self.pipe.recv()

    def close(self) -> None:
        self.pipe.close()
