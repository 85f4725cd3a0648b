"""Removing what dead runs left. Only what is provably dead: nobody holds its lock."""

from __future__ import annotations

import contextlib
import os

from shm_bridge.errors import BridgeError, BridgeTimeout
from shm_bridge.liveness.locks import LANES, OWNERS, SERVER, RunLocks, open_locks
from shm_bridge.names import SHM, Entry, checked_run_id, entries


def _remove(entry: Entry) -> bool:
    try:
        os.unlink(SHM / entry.file)
    except (FileNotFoundError, PermissionError):
        return False
    return True


def _is_alive(locks: RunLocks) -> bool:
    """Whether anybody works with the run's shared memory."""
    return locks.holder(SERVER) is not None or locks.holder(LANES, 0) is not None


def _removable(run_id: str, locks: RunLocks) -> list[Entry]:
    """All of a run that nobody works with, the lock file last; not that file while it says who owns the run."""
    owned = locks.holder(OWNERS, LANES - OWNERS) is not None
    found = [entry for entry in entries(run_id) if not (owned and entry.part == "lock")]
    return sorted(found, key=lambda entry: entry.part == "lock")


def remove_if_dead(run_id: str, locks: RunLocks) -> list[str]:
    """Removes everything of a run nobody lives in, the lock file last; what was removed."""
    try:
        with locks.administration():
            if _is_alive(locks):
                return []
            return [entry.file for entry in _removable(run_id, locks) if _remove(entry)]
    except (BridgeTimeout, FileNotFoundError):  # somebody else is at it
        return []


def remove_lane_files(run_id: str, lane: int) -> list[str]:
    """Removes a lane's segment and semaphore, of every generation. The caller holds the lane's lock."""
    return [entry.file for entry in entries(run_id) if entry.lane == lane and _remove(entry)]


def _dead_lanes(run_id: str, locks: RunLocks) -> list[Entry]:
    lanes = [entry for entry in entries(run_id) if entry.lane is not None]
    return [entry for entry in lanes if entry.lane is not None and locks.holder(LANES + entry.lane) is None]


def leftovers(run_id: str) -> list[str]:
    """Files of a run that nobody alive owns; removes nothing."""
    try:
        locks = open_locks(run_id, create=False)
    except FileNotFoundError:
        return [entry.file for entry in entries(run_id)]
    try:
        if _is_alive(locks):
            return [entry.file for entry in _dead_lanes(run_id, locks)]
        return [entry.file for entry in _removable(run_id, locks)]
    finally:
        locks.close()


def clean_run(run_id: str) -> list[str]:
    """Removes what a dead run left, and a living run's dead lanes; names of what was removed.

    Raises:
        ConfigError: not a run id.
        ForeignOwner: the run belongs to another user.
    """
    checked_run_id(run_id)
    if not any(True for _ in entries(run_id)):
        return []
    locks = open_locks(run_id, create=True)
    try:
        removed = remove_if_dead(run_id, locks)
        if not removed:
            for lane in {entry.lane for entry in _dead_lanes(run_id, locks) if entry.lane is not None}:
                removed += remove_dead_lane(run_id, lane, locks)
        return removed
    finally:
        locks.close()


def remove_dead_lane(run_id: str, lane: int, locks: RunLocks) -> list[str]:
    """Removes a lane's files when its lock can be had: then its owner is dead and nobody new has come."""
    if not locks.acquire(LANES + lane):
        return []
    try:
        return remove_lane_files(run_id, lane)
    finally:
        locks.release(LANES + lane)


def clean_all(dry_run: bool = False) -> dict[str, list[str]]:
    """For every run of this user in /dev/shm: what was (or, dry, would be) removed."""
    found: dict[str, list[str]] = {}
    for run_id in sorted({entry.run_id for entry in entries()}):
        with contextlib.suppress(BridgeError):
            names = leftovers(run_id) if dry_run else clean_run(run_id)
            if names:
                found[run_id] = names
    return found
