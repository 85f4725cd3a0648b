"""Named POSIX semaphores with waits on the monotonic clock.

``posix_ipc`` makes, posts and unlinks; its timed wait follows the wall clock, so a clock set back by an hour would
stretch a wait by an hour. glibc (2.30 and later) has ``sem_clockwait``; where it is missing, short waits are the best
there is. ctypes opens the same semaphore by name: both see the same memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time

import posix_ipc

from shm_bridge.errors import BridgeError, ForeignOwner, SegmentError
from shm_bridge.names import SHM

CLOCK_MONOTONIC = 1
FALLBACK_SLICE_S = 0.02
DRAIN_LIMIT = 4096


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


_libc = ctypes.CDLL(None, use_errno=True)
_clockwait = getattr(_libc, "sem_clockwait", None)
HAS_CLOCKWAIT = _clockwait is not None
if _clockwait is not None:
    _clockwait.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Timespec)]
    _libc.sem_open.restype = ctypes.c_void_p
    _libc.sem_open.argtypes = [ctypes.c_char_p, ctypes.c_int]
    _libc.sem_close.argtypes = [ctypes.c_void_p]


class Semaphore:
    """One named semaphore. Posting at the maximum is not an error: a doorbell that rings already, rings.

    Attributes:
        address: of its sem_t in this process, for native code; None when closed, or where there is no sem_clockwait.
    """

    def __init__(self, name: str, *, create: bool) -> None:
        self.name = name
        flags = posix_ipc.O_CREX if create else 0
        if not create:
            self._check_owner()
        try:
            self._semaphore = posix_ipc.Semaphore(name, flags, mode=0o600, initial_value=0)
        except posix_ipc.ExistentialError as error:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such semaphore", name) from None
            raise SegmentError(f"semaphore {name}: {error}") from None
        except (posix_ipc.Error, OSError, ValueError) as error:
            raise SegmentError(f"semaphore {name}: {error}") from None
        self.address = _libc.sem_open(name.encode(), 0) if HAS_CLOCKWAIT else None
        if HAS_CLOCKWAIT and self.address is None:
            self._semaphore.close()
            raise SegmentError(f"semaphore {name}: {os.strerror(ctypes.get_errno())}")
        self._until = _Timespec()
        self._reference = ctypes.byref(self._until)

    def _check_owner(self) -> None:
        try:
            status = os.stat(SHM / f"sem.{self.name[1:]}", follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SegmentError(f"semaphore {self.name}: {error.strerror}") from None
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ForeignOwner(
                f"semaphore {self.name} belongs to uid {status.st_uid} (mode {status.st_mode & 0o777:o}); "
                f"must belong to uid {os.geteuid()} alone"
            )
        if status.st_size != ctypes.sizeof(ctypes.c_long) * 4:
            raise SegmentError(f"semaphore {self.name} has {status.st_size} bytes: not a semaphore")

    def post(self) -> None:
        try:
            self._semaphore.release()
        except (posix_ipc.Error, OSError, ValueError):  # at its maximum: whoever waits will wake
            if self._semaphore is None:
                raise BridgeError(f"semaphore {self.name} is closed") from None

    def wait(self, seconds: float) -> bool:
        """Whether a post was taken within ``seconds``; False also when a signal came."""
        if self.address is None or _clockwait is None:
            try:
                self._semaphore.acquire(min(seconds, FALLBACK_SLICE_S))
            except (posix_ipc.BusyError, posix_ipc.SignalError):
                return False
            return True
        until = time.monotonic_ns() + int(seconds * 1e9)
        self._until.seconds, self._until.nanoseconds = divmod(until, 1_000_000_000)
        return bool(_clockwait(self.address, CLOCK_MONOTONIC, self._reference) == 0)

    def drain(self) -> int:
        """Takes posts nobody waits for any more; at most ``DRAIN_LIMIT``. How many."""
        taken = 0
        with contextlib.suppress(posix_ipc.BusyError, posix_ipc.SignalError):
            while taken < DRAIN_LIMIT:
                self._semaphore.acquire(0)
                taken += 1
        return taken

    @property
    def value(self) -> int:
        return int(self._semaphore.value)

    def close(self) -> None:
        if self.address:
            _libc.sem_close(self.address)
            self.address = None
        with contextlib.suppress(posix_ipc.Error, OSError, ValueError):
            self._semaphore.close()

    def unlink(self) -> None:
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(self.name)

    @staticmethod
    def remove(name: str) -> None:
        """Unlinks a semaphore a dead owner left, if it is there."""
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(name)
