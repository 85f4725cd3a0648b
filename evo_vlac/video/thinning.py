"""Fewer frames a second: by the time at which each is shown, not by their count: phones vary their rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def thinned(timed: Iterable[tuple[float, T]], fps: float) -> Iterator[T]:
    """Keeps the first item, the one nearest to every further multiple of ``1 / fps``, and the last, which is judged.

    ``timed``: (seconds, item), the seconds rising. No item comes twice, so a slower source stays as it is. One item
    is held back, none else is in memory.
    """
    start, due = 0.0, 0
    held: tuple[float, T] | None = None
    for now, item in timed:
        if held is None:
            start = now
        else:
            then, before = held
            if due / fps <= (then + now) / 2 - start + 1e-9:
                yield before
                due = max(due, round((then - start) * fps)) + 1
        held = now, item
    if held is not None:
        yield held[1]


def sample_indices(source_fps: float, target_fps: float, frames: int) -> list[int]:
    """Which frames remain when ``source_fps`` is thinned to ``target_fps``: evenly, and the last one always."""
    return list(thinned(((i / source_fps, i) for i in range(frames)), target_fps))
