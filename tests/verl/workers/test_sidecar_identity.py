"""A host's sidecar is the process that it started, not whatever answers to the run id."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.support.processes import new_id, run_of
from tests.support.sidecar_process import sidecar, until
from verl.errors import SidecarLostError
from verl.workers import sidecar_host
from verl.workers.sidecar_host import SidecarHost


@pytest.fixture
def hosted(tmp_path):
    """A function that makes a host for a run id; stopped at the end."""
    made: list[SidecarHost] = []

    def make(run_id: str) -> SidecarHost:
        config = tmp_path / f"{run_id}.yaml"
        config.write_text(f"run_id: {run_id}\nengine: fixed\n")
        made.append(SidecarHost(run_id, str(config), str(tmp_path / "host.log"), None, 3))
        return made[-1]

    yield make
    for host in made:
        host.stop()


def test_anothers_sidecar_of_the_same_id_is_not_ready_for_us(tmp_path, hosted):
    """Ours is refused the id and ends: that is said, with the process that has it."""
    with sidecar(tmp_path) as foreign:
        host = hosted(foreign.run_id)
        host.start()
        with pytest.raises(SidecarLostError, match=f"is served by process {foreign.service_pid()}"):
            host.wait_ready(30)


def test_anothers_sidecar_is_not_told_our_phases(tmp_path, hosted, monkeypatch):
    """Ours has died; somebody else has taken the id meanwhile."""
    monkeypatch.setattr(sidecar_host, "ORPHAN_S", 0.2)
    with sidecar(tmp_path) as foreign:
        host = hosted(foreign.run_id)
        with psutil.Popen(["sleep", "60"]) as ours:
            host.process = ours
            try:
                for call in (lambda: host.phase("UPDATE", 5), host.status):
                    with pytest.raises(SidecarLostError, match=f"process {foreign.service_pid()} .*which is not"):
                        call()
            finally:
                ours.kill()
        assert foreign.status()["phase"] != "UPDATE"


def test_anothers_sidecar_is_taken_where_that_is_asked_for(tmp_path, hosted):
    """``critic.sidecar.start=false``: the host has started none."""
    with sidecar(tmp_path) as foreign:
        host = hosted(foreign.run_id)
        host.wait_ready(30)
        host.phase("UPDATE", 10)
        assert host.status()["pid"] == foreign.service_pid()


def test_a_service_that_its_supervisor_starts_again_is_still_ours(tmp_path, hosted):
    with run_of(new_id()) as run_id:
        host = hosted(run_id)
        host.start()
        host.wait_ready(60)
        first = host.status()["pid"]
        psutil.Process(first).send_signal(signal.SIGKILL)
        until(lambda: host.status()["pid"] not in (None, first))
        host.wait_ready(60)
        host.phase("UPDATE", 20)
        host.stop()
