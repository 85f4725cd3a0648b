"""Progress bars: on a terminal, and nothing in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A callback taking (done, all), drawn as a bar on standard error while the block runs."""
    from tqdm import tqdm

    with tqdm(desc=title, disable=not sys.stderr.isatty(), leave=False) as shown:

        def update(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield update
