"""Who owns a run: its id on this machine, and its folder. Locks that the kernel drops, however their holder dies.

    launcher --holds--> id: LAUNCHER (and ENDING, once it cleans up)      shm_bridge.liveness.locks, in /dev/shm
       +- trainer --holds--> id: TRAINER (and LAUNCHER, when it has no launcher);  folder: runs/<id>/.owner

The id is claimed because segments and semaphores are named by it: runs in different folders meet there. The folder is
claimed because another node, or a container with a /dev/shm of its own, may share the file system. No child inherits
either lock, so nothing that outlives its owner (Ray's daemons, environments) keeps a run claimed. What waits: a run
whose owner is just ending. What is refused at once: one that lives.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import logging
import os
import socket
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from shm_bridge.errors import BridgeError, BridgeTimeout
from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.liveness.locks import LANES, OWNERS, SERVER, RunLocks, open_locks
from shm_bridge.names import checked_run_id
from verl.errors import ConfigError, RunInUseError

logger = logging.getLogger(__name__)
LAUNCHER, TRAINER, ENDING = OWNERS, OWNERS + 1, OWNERS + 2
PATIENCE_S = 30.0  # for a run that is ending: a launcher cleans up in less, a sidecar drains in less
POLL_S = 0.1
COMMAND_LENGTH = 200  # of what a message shows


class IdClaim:
    """This process's claim on a run id. Use :func:`claim_as_launcher` or :func:`claim_as_trainer`."""

    def __init__(self, run_id: str) -> None:
        try:
            checked_run_id(run_id)
            self._locks: RunLocks = open_locks(run_id, create=True)
        except BridgeError as error:
            raise ConfigError(f"trainer.run_id={run_id}: {error}") from None
        self.run_id = run_id

    def _take(self, byte: int) -> None:
        """Waits for a holder that is ending. Raises RunInUseError at once when it lives, later when it stays."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._try(byte):
            holder = self._locks.holder(byte)
            # a trainer whose launcher was killed is ending: whoever is here has the launcher's byte
            living = byte == LAUNCHER and self._locks.holder(ENDING) is None
            if holder is not None and (living or time.monotonic() > deadline):
                raise RunInUseError(_in_use(self.run_id, holder, ending=not living))
            time.sleep(POLL_S)

    def _try(self, byte: int) -> bool:
        try:
            with self._locks.administration():  # who removes a dead run's lock file has this, too
                return self._locks.acquire(byte)
        except BridgeTimeout as error:
            raise RunInUseError(f"trainer.run_id={self.run_id}: {error}") from None

    def wait_vacant(self, patience_s: float = PATIENCE_S) -> None:
        """Until no sidecar and no lane of an earlier run with this id lives any more.

        Raises:
            RunInUseError: one still does after ``patience_s`` seconds.
        """
        deadline = time.monotonic() + patience_s
        while (holder := self._locks.holder(SERVER) or self._locks.holder(LANES, 0)) is not None:
            if time.monotonic() > deadline:
                raise RunInUseError(_in_use(self.run_id, holder, ending=True))
            time.sleep(POLL_S)

    def ending(self) -> None:
        """From now on another launch of this id waits for this one's end."""
        self._locks.acquire(ENDING)

    def release(self) -> None:
        """Gives the id back; the lock file goes with its last owner."""
        for byte in (TRAINER, LAUNCHER, ENDING):
            self._locks.release(byte)
        self._locks.close()
        clean_run(self.run_id)


def claim_as_launcher(run_id: str) -> IdClaim:
    """For a process that starts the trainer and cleans up after it.

    Raises:
        ConfigError: not a run id, or another user's.
        RunInUseError: another process has it.
    """
    claim = IdClaim(run_id)
    try:
        claim._take(LAUNCHER)
        claim._take(TRAINER)
        claim._locks.release(TRAINER)
    except BaseException:
        claim.release()
        raise
    return claim


def claim_as_trainer(run_id: str) -> IdClaim:
    """For the trainer itself, below a launcher that has the id or without one. Raises as :func:`claim_as_launcher`."""
    claim = IdClaim(run_id)
    try:
        if claim._locks.holder(LAUNCHER) != os.getppid():
            claim._take(LAUNCHER)
        claim._take(TRAINER)
    except BaseException:
        claim.release()
        raise
    return claim


@contextmanager
def claimed_folder(path: Path) -> Iterator[None]:
    """Makes the folder and holds it.

    Raises:
        RunInUseError: another process has it, on this machine or on another that shares the file system.
    """
    path.mkdir(parents=True, exist_ok=True)
    # Closing any other descriptor of this file would drop the lock: nobody else in this process may open it.
    descriptor = os.open(path / ".owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RunInUseError(f"{path} is in use: {_written(descriptor)}") from None
        except OSError as error:  # a file system without locks
            logger.warning("%s cannot be locked (%s): nothing keeps another node out of it", path, error)
        _write(descriptor, path / ".owner")
        yield
    finally:
        os.close(descriptor)


def _write(descriptor: int, file: Path) -> None:
    text = json.dumps({"host": socket.gethostname(), **_described(os.getpid())}) + "\n"
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError as error:  # a full disk; the system does not know the name
        raise OSError(error.errno, error.strerror, str(file)) from None


def _written(descriptor: int) -> str:
    """What the folder's owner wrote of itself."""
    try:
        told = json.loads(os.pread(descriptor, 65536, 0))
        return f"process {told['pid']} on {told['host']} ({told['command']}), running since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process holds its file .owner"


def _described(pid: int) -> dict[str, int | str]:
    process = psutil.Process(pid)
    since = datetime.datetime.fromtimestamp(process.create_time()).strftime("%Y-%m-%d %H:%M:%S")
    command = textwrap.shorten(" ".join(process.cmdline()) or process.name(), COMMAND_LENGTH, placeholder=" ...")
    return {"pid": pid, "command": command, "since": since}


def _in_use(run_id: str, pid: int, ending: bool) -> str:
    try:
        told = _described(pid)
        holder = f"process {pid} ({told['command']}), running since {told['since']}"
    except psutil.Error:
        holder = f"process {pid}, of another container or just gone,"
    if ending:
        return (
            f"trainer.run_id={run_id} is not free: {holder}, is what is left of an earlier run and does not end; "
            f"end it, or choose another run id"
        )
    return f"trainer.run_id={run_id} is in use: {holder}; wait for its end, or choose another run id"
