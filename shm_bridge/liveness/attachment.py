"""A lane's place in its run: finding the sidecar, claiming a number, ringing, and coming back after a restart."""

from __future__ import annotations

import contextlib
import logging
import time

from shm_bridge.backend import chosen
from shm_bridge.errors import BadMagic, FilesRemoved, SegmentError, SidecarDied, SidecarUnreachable, TooManyLanes
from shm_bridge.liveness.cleaning import remove_if_dead, remove_lane_files
from shm_bridge.liveness.locks import LANES, SERVER, RunLocks, open_locks
from shm_bridge.memory import segment
from shm_bridge.memory.control import Control, ControlRole, open_control
from shm_bridge.memory.layout import ServerWord
from shm_bridge.names import SHM, bell_name, checked_run_id, control_name
from shm_bridge.sync.ordering import MASK
from shm_bridge.sync.parking import Bell, LaneBell
from shm_bridge.sync.semaphore import Semaphore

logger = logging.getLogger(__name__)
CONNECT_POLL_S = 0.01


def connect(run_id: str, role: ControlRole, timeout: float) -> tuple[RunLocks, Control]:
    """The run's locks and control segment, once a living sidecar serves it.

    Raises:
        SidecarUnreachable: none did within ``timeout`` seconds.
        SegmentError: the segment must not be trusted (other version, other owner, damaged).
    """
    checked_run_id(run_id)
    deadline = time.monotonic() + timeout
    reason = "there is no such run"
    while True:
        try:
            return _connect_once(run_id, role)
        except FileNotFoundError:
            pass
        except BadMagic as error:
            reason = str(error)
        except SidecarUnreachable as error:
            reason = str(error)
        if time.monotonic() >= deadline:
            raise SidecarUnreachable(
                f"run_id={run_id!r}: no sidecar answered within {timeout:g} s ({reason}); is it running, as this user?"
            )
        time.sleep(CONNECT_POLL_S)


def _connect_once(run_id: str, role: ControlRole) -> tuple[RunLocks, Control]:
    locks = open_locks(run_id, create=False)
    try:
        if locks.holder(SERVER) is None:
            raise SidecarUnreachable("its sidecar is dead")
        control = open_control(run_id, role)
        if not (SHM / f"sem.{bell_name(run_id, control.server[ServerWord.BELL])[1:]}").exists():
            control.close()
            raise SidecarUnreachable("its sidecar has no doorbell yet")
        return locks, control
    except BaseException:
        locks.close()
        raise


class Attachment:
    """The lane's row in the control segment. Its owner holds the lane's lock as long as it lives.

    Attributes:
        bell: the lane's, and the sidecar's doorbell; another one after the sidecar has made a new control segment.
    """

    __slots__ = (
        "_last",
        "_semaphore",
        "bell",
        "control",
        "generation",
        "index",
        "locks",
        "reattached",
        "run_id",
    )

    def __init__(self, run_id: str, timeout: float) -> None:
        self.run_id = run_id
        self.generation = 0
        self.reattached = 0
        self.locks, self.control = connect(run_id, ControlRole.WORKER, timeout)
        self._semaphore: Semaphore | None = None
        try:
            self.index = self._claim()
            self._hear(Semaphore(bell_name(run_id, self.control.server[ServerWord.BELL]), create=False))
            self._last = self.control.last_generations[self.index]
        except FileNotFoundError:
            self._close_handles()
            raise SidecarUnreachable(f"run_id={run_id!r}: its sidecar left just now") from None
        except BaseException:
            self._close_handles()
            raise

    def _hear(self, semaphore: Semaphore) -> None:
        doorbell = chosen(Bell)(self.control.server, int(ServerWord.PARKED), semaphore)
        self.bell = chosen(LaneBell)(self.control.bells, self.index, doorbell)
        self._semaphore = semaphore

    def _claim(self) -> int:
        for index in range(self.control.lanes):
            if self.locks.acquire(LANES + index):
                remove_lane_files(self.run_id, index)  # of a dead owner the sidecar has not noticed yet
                return index
        raise TooManyLanes(f"run_id={self.run_id!r}: all {self.control.lanes} lanes have living owners")

    def next_generation(self) -> int:
        """Never used before for this lane's number."""
        self.generation = (self._last + 1) & MASK or 1
        return self.generation

    def register(self) -> None:
        """From here on the sidecar can find the lane; its segment is complete."""
        control, index = self.control, self.index
        control.last_generations[index] = self.generation
        control.generations[index] = self.generation
        self.bell.ring()

    def check(self) -> bool:
        """Whether a sidecar lives; follows it to a new control segment when there is one.

        Raises:
            FilesRemoved: none does, and none can be seen again, since the lock file was removed.
        """
        alive = self.locks.holder(SERVER) is not None
        if not alive and not self.locks.is_current():
            raise FilesRemoved(self.run_id)
        if alive and segment.inode(control_name(self.run_id)) != self.control.inode:
            with contextlib.suppress(FileNotFoundError, BadMagic):
                self._reattach()
        return alive

    def _reattach(self) -> None:
        fresh = open_control(self.run_id, ControlRole.WORKER)
        try:
            if self.index >= fresh.lanes:
                raise TooManyLanes(f"run_id={self.run_id!r}: the new sidecar has {fresh.lanes} lanes only")
            bell = Semaphore(bell_name(self.run_id, fresh.server[ServerWord.BELL]), create=False)
        except (SegmentError, TooManyLanes, FileNotFoundError):
            fresh.close()
            raise
        self.abandon()
        self.control = fresh
        self._hear(bell)
        self.reattached += 1
        self.register()
        logger.info("run %s: lane %d reattached to epoch %d", self.run_id, self.index, fresh.epoch)

    def withdraw(self) -> None:
        """From here on the sidecar finds the lane no more; first, so that it never looks for a removed one."""
        if self.control.generations[self.index] == self.generation:
            self.control.generations[self.index] = 0
            self.bell.ring()

    def detach(self) -> None:
        """Gives the number back. The last of a run to leave removes what is left of it."""
        self.locks.release(LANES + self.index)
        remove_if_dead(self.run_id, self.locks)
        self._close_handles()

    def abandon(self) -> None:
        """In a forked child: lets go of the handles; the lane is the parent's."""
        if self._semaphore is not None:
            self.bell.close()
            self._semaphore.close()
        self.control.close()

    def _close_handles(self) -> None:
        self.abandon()
        self.locks.close()


class Patience:
    """How long a wait goes on without a living sidecar: it may be on its way back."""

    def __init__(self, attachment: Attachment, grace: float) -> None:
        self._attachment, self._grace = attachment, grace
        self._dead_since: float | None = None

    def reset(self) -> None:
        self._dead_since = None

    def look(self) -> None:
        """Raises :class:`SidecarDied` when none has lived for ``grace`` seconds of looking."""
        if self._attachment.check():
            self._dead_since = None
            return
        now = time.monotonic()
        if self._dead_since is None:
            self._dead_since = now
        if now - self._dead_since >= self._grace:
            raise SidecarDied(
                f"run_id={self._attachment.run_id!r}: the sidecar is dead; no other came within {self._grace:g} s"
            )
