"""Why a file cannot be read, in words that say what to do: what its library says is often not the reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_LFS = b"version https://git-lfs.github.com/spec/"


def unreadable(path: Path, what: str, error: BaseException) -> str:
    """One line about ``path``, which is not ``what`` ("an HDF5 file") as its library's ``error`` has it.

    A Git LFS pointer, an empty file, and one that another process holds open for writing are called that.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS))
    except OSError as failure:
        return f"{path} cannot be opened: {failure.strerror or failure}"
    if head == _LFS:
        return f"{path} is a Git LFS pointer, not the file itself; fetch that (git lfs pull)"
    writer = writer_of(path)
    locked = isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EACCES)
    if writer is not None or locked:
        who = "another process" if writer is None else f"process {writer}"
        return f"{path} is held open for writing by {who}; it can be read when that has closed it"
    if not head:
        return f"{path} is empty (0 bytes)"
    return f"{path} is not {what} that can be read: {error}"


def writer_of(path: Path) -> int | None:
    """The process that holds a file open for writing, of those that /proc shows us; None without one."""
    try:
        wanted = path.stat()
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    return next((int(process) for process in processes if _writes(process, wanted)), None)


def _writes(process: str, wanted: os.stat_result) -> bool:
    try:
        for number in os.listdir(f"/proc/{process}/fd"):
            if os.path.samestat(os.stat(f"/proc/{process}/fd/{number}"), wanted):
                info = Path(f"/proc/{process}/fdinfo/{number}").read_text(encoding="ascii")
                flags = next(int(line.split()[1], 8) for line in info.splitlines() if line.startswith("flags:"))
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    return True
    except (OSError, StopIteration, ValueError):  # it ended, or is not ours
        pass
    return False
