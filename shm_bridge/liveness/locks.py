"""Who lives: record locks that the kernel drops when their holder dies.

One lock file a run; byte 0 stands for the sidecar, byte 1 for a process that makes or removes things, bytes 2 to 15 for
those who own the run without being in shared memory (a trainer and its launcher), byte ``LANES + i`` for the owner of
lane ``i``. Why POSIX record locks (``fcntl``) and not ``flock``, OFD locks or a pid:

- they belong to the PROCESS: a forked child holds none of them, so it cannot keep a dead worker alive; ``flock`` and
  OFD locks belong to the open file, which a child shares;
- ``exec`` closes the file (it is close-on-exec) and so drops the lock, as it drops the mappings: both end together;
- the kernel drops them in ``exit_files``, after ``exit_mm``: once a lock is free its holder can write to shared memory
  no more, however it died, and a reused pid holds nothing;
- ``F_GETLK`` asks without taking, and names the holder: an inspector never disturbs.

Their trap: closing ANY descriptor of the file drops ALL locks of the process on it. So this module opens a run's file
once per process, shares that descriptor, and nobody else may open the file. Locks of one process do not exclude each
other either: what this process holds is kept in a set.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shm_bridge.errors import BridgeTimeout, ForeignOwner, NoSharedMemory, RunInUse
from shm_bridge.names import SHM, lock_path

SERVER = 0
ADMIN = 1
OWNERS = 2
LANES = 16
_FLOCK = struct.Struct("@hhqqi4x")
_registry: dict[str, RunLocks] = {}
_registry_lock = threading.RLock()


class RunLocks:
    """This process's one descriptor of a run's lock file. Get it by :func:`open_locks`, give it back by ``close``."""

    def __init__(self, run_id: str, create: bool) -> None:
        self.run_id = run_id
        self.path = lock_path(run_id)
        self.users = 0
        self.held: set[int] = set()
        self._fd = self._open(create)

    def _open(self, create: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        try:
            fd = os.open(self.path, flags, 0o600)
        except PermissionError as error:
            if not self.path.exists():
                raise NoSharedMemory(error) from None
            raise ForeignOwner(f"{self.path} belongs to another user") from None
        except OSError as error:
            if not SHM.is_dir() or error.errno == errno.EROFS:
                raise NoSharedMemory(error) from None
            raise
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(fd)
            raise ForeignOwner(f"{self.path} belongs to uid {status.st_uid}; must belong to uid {os.geteuid()} alone")
        return fd

    def is_current(self) -> bool:
        """Whether the file still has its name; it loses it when a finished run is removed."""
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._fd)
        return (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev)

    def refresh(self, create: bool) -> bool:
        """Follows the name to a new file; only while nothing is held. Whether the file is the named one now."""
        with _registry_lock:
            if self.is_current():
                return True
            if self.held:
                return False
            try:
                fd = self._open(create)
            except FileNotFoundError:
                return False
            os.close(self._fd)
            self._fd = fd
            return True

    def acquire(self, byte: int) -> bool:
        """Takes a lock if it is free; at once. A lock on a file that has lost its name is worth nothing."""
        with _registry_lock:
            if byte in self.held:
                return False
            for _ in range(16):
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                except (BlockingIOError, PermissionError):
                    return False
                if self.is_current():
                    self.held.add(byte)
                    return True
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)
                if not self.refresh(create=True):
                    return False
            return False

    def release(self, byte: int) -> None:
        with _registry_lock:
            if byte in self.held:
                self.held.discard(byte)
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)

    def holder(self, byte: int, length: int = 1) -> int | None:
        """Pid of a process that holds a lock in the range; None when all are free. Takes nothing."""
        for mine in self.held:
            if mine >= byte and (length == 0 or mine < byte + length):
                return os.getpid()
        answer = fcntl.fcntl(self._fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, length, 0))
        kind, _, _, _, pid = _FLOCK.unpack(answer)
        return None if kind == fcntl.F_UNLCK else int(pid)

    @contextmanager
    def administration(self, timeout: float = 5.0) -> Iterator[None]:
        """One at a time makes or removes a run's parts."""
        deadline = time.monotonic() + timeout
        while not self.acquire(ADMIN):
            if time.monotonic() > deadline:
                raise BridgeTimeout(f"run {self.run_id}: process {self.holder(ADMIN)} kept it busy for {timeout} s")
            time.sleep(0.002)
        try:
            yield
        finally:
            self.release(ADMIN)

    def claim_server(self) -> None:
        if not self.acquire(SERVER):
            raise RunInUse(f"run_id={self.run_id!r} is served by process {self.holder(SERVER)}; choose another run id")

    def close(self) -> None:
        """The last user closes the file, which drops whatever this process still holds."""
        with _registry_lock:
            self.users -= 1
            if self.users <= 0 and _registry.get(self.run_id) is self:
                del _registry[self.run_id]
                os.close(self._fd)


def open_locks(run_id: str, *, create: bool) -> RunLocks:
    """The run's locks. Raises ``FileNotFoundError`` when the run does not exist and ``create`` is false."""
    with _registry_lock:
        locks = _registry.get(run_id)
        if locks is None:
            locks = _registry[run_id] = RunLocks(run_id, create)
        elif not locks.refresh(create):
            raise FileNotFoundError(locks.path)
        locks.users += 1
        return locks


def _forget_in_child() -> None:
    """A forked child holds none of its parent's locks; what it opens is its own."""
    global _registry_lock
    _registry_lock = threading.RLock()
    for locks in _registry.values():
        locks.held.clear()
        os.close(locks._fd)
        locks._fd = -1
    _registry.clear()


os.register_at_fork(after_in_child=_forget_in_child)
