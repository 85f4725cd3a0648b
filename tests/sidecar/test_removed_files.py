"""Somebody removes a run's files from /dev/shm while it is served (RemoveIPC=yes at a log-out, a tidy colleague)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shm_bridge import Controller, FilesRemoved, Lane, Phase
from shm_bridge.errors import SidecarUnreachable
from tests.support.sidecar_process import SPEC, leftovers, sidecar, until, verdict

SHM = Path("/dev/shm")
REMOVED = {"control": ":control", "lock": ":lock", "bell": ":bell"}


REMEDY = "loginctl enable-linger USER, or RemoveIPC=no"


def remove_all(run_id: str) -> None:
    for name in leftovers(run_id):
        (SHM / name).unlink()


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
        until(lambda: REMEDY in one.said)
        with pytest.raises(SidecarUnreachable, match=one.run_id):
            Lane.attach(one.run_id, SPEC, timeout=0.5)
        if what != "lock":
            os.kill(service, signal.SIGKILL)
            until(lambda: (new := attached(one.run_id)) is not None and one.lanes.append(new) is None)
            assert verdict(one.lanes[-1], 1).valid


def test_when_all_is_removed_the_trainer_and_the_worker_that_are_there_go_on(tmp_path: Path) -> None:
    """A log-out takes every file at once. The sidecar says so, once, with what is to be done."""
    with sidecar(tmp_path) as one, Controller.connect(one.run_id) as trainer:
        lane = one.lane()
        assert verdict(lane, 0).valid
        remove_all(one.run_id)
        until(lambda: REMEDY in one.said)
        for phase in (Phase.UPDATE, Phase.ROLLOUT):
            trainer.request_phase(phase, timeout=20, grace=0.5)
        assert all(verdict(lane, step).valid for step in range(1, 4))
        assert trainer.ready and one.said.count(REMEDY) == 1


def test_when_the_sidecar_ends_after_that_the_worker_is_told_at_once(tmp_path: Path) -> None:
    """No successor can be seen: its lock is in another file. The worker would wait for its whole grace, 30 s."""
    with sidecar(tmp_path) as one:
        lane = one.lane()
        remove_all(one.run_id)
        one.process.kill()
        until(lambda: not lane_alive(lane))
        with pytest.raises(FilesRemoved, match=REMEDY):
            verdict(lane, 1)


def lane_alive(lane: Lane) -> bool:
    try:
        return lane.sidecar_alive
    except FilesRemoved:
        return False
