"""Segments: made whole or not at all, opened only when they are ours, mapped only after their header was checked."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable
from typing import TypeVar

import posix_ipc

from shm_bridge.errors import CorruptSegment, ForeignOwner, NoSpace, SegmentError
from shm_bridge.memory.layout import HEADER_BYTES
from shm_bridge.names import SHM

T = TypeVar("T")
MADV_POPULATE_READ = 22
MADV_POPULATE_WRITE = 23


def free_bytes() -> int:
    """Bytes that are free in /dev/shm."""
    status = os.statvfs(SHM)
    return status.f_bavail * status.f_frsize


def create(name: str, size: int, what: str) -> int:
    """A new segment, all its memory there already; its descriptor.

    ``posix_fallocate`` takes the pages now: without it a full /dev/shm shows as SIGBUS at the first touch, later.

    Raises:
        NoSpace: /dev/shm has not ``size`` bytes.
        SegmentError: a segment of that name exists.
    """
    try:
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=0)
    except posix_ipc.ExistentialError:
        raise SegmentError(f"segment {name} exists already") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(what, size, free_bytes()) from None
        raise
    try:
        os.posix_fallocate(memory.fd, 0, size)
    except OSError as error:
        free = free_bytes()
        os.close(memory.fd)
        unlink(name)
        if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise NoSpace(what, size, free) from None
        raise
    return int(memory.fd)


def open_checked(name: str, unpack: Callable[[bytes, int], T], *, write: bool) -> tuple[int, T]:
    """Opens a segment and has ``unpack(header bytes, size)`` judge it; descriptor and what ``unpack`` returned.

    Size 0 is passed on opening, since posix_ipc RESIZES an existing segment to any other. Nothing is mapped here.

    Raises:
        FileNotFoundError: no such segment.
        ForeignOwner, SegmentError: it is not ours, or not whole.
    """
    try:
        memory = posix_ipc.SharedMemory(name, 0, size=0, read_only=not write)
    except posix_ipc.ExistentialError:
        raise FileNotFoundError(errno.ENOENT, "no such segment", name) from None
    except (posix_ipc.PermissionsError, PermissionError):
        raise ForeignOwner(f"segment {name} belongs to another user") from None
    fd = int(memory.fd)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise ForeignOwner(
                f"segment {name} belongs to uid {status.st_uid} (mode {stat.S_IMODE(status.st_mode):o}); "
                f"must belong to uid {os.geteuid()} alone, mode 600"
            )
        if not stat.S_ISREG(status.st_mode):
            raise CorruptSegment(f"segment {name} is not a regular file")
        return fd, unpack(os.pread(fd, HEADER_BYTES, 0), status.st_size)
    except BaseException:
        os.close(fd)
        raise


def map_part(fd: int, offset: int, length: int, *, write: bool, populate: bool = False) -> mmap.mmap:
    """Maps a page-aligned part. Without ``write`` the processor itself refuses stores.

    ``populate`` maps all pages now, so that no first touch shows up in a latency.
    """
    access = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
    part = mmap.mmap(fd, length, mmap.MAP_SHARED, access, offset=offset)
    if populate:
        with contextlib.suppress(OSError, ValueError):  # kernels before 5.14 do not know it
            part.madvise(MADV_POPULATE_WRITE if write else MADV_POPULATE_READ)
    return part


def close_map(part: mmap.mmap) -> None:
    """Unmaps, unless an array somebody still holds looks into it: then the last such array does."""
    with contextlib.suppress(BufferError):
        part.close()


def unlink(name: str) -> bool:
    """Whether there was such a segment."""
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return False
    return True


def inode(name: str) -> int | None:
    """Inode number of a segment; None when there is none."""
    try:
        return os.stat(SHM / name[1:], follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None
