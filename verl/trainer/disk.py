"""A full disk, told as one: which path, how much is needed, how much is free."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
# torch's writer of archives reports its own bookkeeping, and loses the system's error on the way through pickle
WRITER = re.compile(r"inline_container|PytorchStreamWriter|unexpected pos")
LITTLE = 2**20
WORDS = re.compile(r"No space left on device|os error 28\b|Disk quota exceeded|os error 122\b")


def full_disk(error: BaseException, place: Path, needed: int | None = None) -> str | None:
    """A sentence about the full disk that ``error`` comes from; None when it comes from something else.

    Args:
        place: what was written to when the error itself names no path.
        needed: bytes, where that is known.
    """
    for one in _chain(error):
        number = one.errno if isinstance(one, OSError) else None
        if number in FULL or WORDS.search(str(one)):
            named = one.filename if isinstance(one, OSError) and number in FULL else None
            return _told(Path(named) if isinstance(named, str) else place, needed)
        if WRITER.search(str(one)) and _free(place) < (needed or LITTLE):
            return _told(place, needed)
    return None


def _free(place: Path) -> int:
    """Bytes."""
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free


def _told(place: Path, needed: int | None) -> str:
    more = f", about {needed / 2**20:.0f} MiB are needed" if needed else ""
    return (
        f"no space left on device (or its quota is used up): {place}; {_free(place) / 2**20:.0f} MiB are free there{more}. "
        "Make room, or choose another trainer.default_local_dir"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it came from, also across Ray and torch.distributed.checkpoint."""
    seen: set[int] = set()
    left: list[object] = [error]
    while left:
        one = left.pop(0)
        if isinstance(one, tuple) and one:  # torch wraps an error with its traceback
            one = one[0]
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [getattr(one, "cause", None), one.__cause__, one.__context__]
        left += list(getattr(one, "failures", {}).values())
