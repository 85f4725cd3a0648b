"""Somebody removes a run's files from /dev/shm while it is served (RemoveIPC=yes at a log-out, a tidy colleague)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shm_bridge import Lane
from shm_bridge.errors import SidecarUnreachable
from tests.support.sidecar_process import SPEC, leftovers, sidecar, until, verdict

SHM = Path("/dev/shm")
REMOVED = {"control": ":control", "lock": ":lock", "bell": ":bell"}


def attached(run_id: str, timeout: float = 0.5) -> Lane | None:
    """A new worker's lane; None where there is no sidecar to be found."""
    try:
        lane = Lane.attach(run_id, SPEC, timeout=timeout, name="new", grace=30)
    except SidecarUnreachable:
        return None
    lane.begin_episode(0, "lift the red cube")
    return lane


@pytest.mark.parametrize("what", list(REMOVED))
def test_who_is_served_goes_on_and_who_comes_is_told(tmp_path: Path, what: str) -> None:
    """Memory that is mapped stays; a new worker finds no such run. A service that is started again makes what it needs
    anew, but not the lock, which its supervisor still holds."""
    with sidecar(tmp_path) as one:
        lane, service = one.lane(), one.service_pid()
        for name in leftovers(one.run_id):
            if REMOVED[what] in name:
                (SHM / name).unlink()
        assert all(verdict(lane, step).valid for step in range(3))
        with pytest.raises(SidecarUnreachable, match=one.run_id):
            Lane.attach(one.run_id, SPEC, timeout=0.5)
        if what != "lock":
            os.kill(service, signal.SIGKILL)
            until(lambda: (new := attached(one.run_id)) is not None and one.lanes.append(new) is None)
            assert verdict(one.lanes[-1], 1).valid
