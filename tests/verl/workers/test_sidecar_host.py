"""The actor that keeps a sidecar, without Ray: a sidecar that another one left is ended before the next is started."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from shm_bridge import Controller, SidecarUnreachable
from shm_bridge.liveness.cleaning import clean_run
from verl.errors import SidecarLostError
from verl.workers.sidecar_host import SidecarHost

READY_S = 120.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator:
    """Makes hosts of one run; what they started is ended."""
    run_id = f"test-{secrets.token_hex(6)}"
    file = tmp_path / "sidecar.yaml"
    file.write_text(yaml.safe_dump({"run_id": run_id, "engine": "fixed", "fixed": {"done_at_step": 4}}))
    made: list[SidecarHost] = []

    def host(cards: list[str] | None = None) -> SidecarHost:
        made.append(SidecarHost(run_id, str(file), str(tmp_path / "sidecar.log"), None, 3, cards))
        return made[-1]

    yield host
    everything = [process for one in made for process in family(one)]
    for one in made:
        one.stop()
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(everything, timeout=10)
    clean_run(run_id)


def family(host: SidecarHost) -> list[psutil.Process]:
    """The supervisor and its service."""
    try:
        supervisor = psutil.Process(host.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "running"])
def test_the_next_host_ends_the_sidecar_of_one_that_is_gone(make, stopped):
    """A stopped one cannot end itself: it would hold the run's lock for ever, and no other could serve."""
    first = make()
    first.start()
    first.wait_ready(READY_S)
    before = family(first)
    if stopped:
        for process in before:
            process.suspend()
    else:
        before[0].terminate()  # by the kernel, when the host dies
    second = make()
    second.start()
    second.wait_ready(READY_S)
    first.process.wait(10)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in before)
    second.phase("UPDATE", 30)
    second.phase("ROLLOUT", 30)
    assert second.status()["pid"] in [process.pid for process in family(second)]


def test_a_record_of_another_process_with_that_number_harms_nobody(make):
    """Numbers come again: who has another start time is not the sidecar."""
    host = make()
    host._write_record(psutil.Process())
    host.record.write_text(host.record.read_text().replace('"started": ', '"started": 1'))
    host.start()
    assert psutil.Process().is_running()
    host.record.write_text("{")
    host._end_predecessor()


def test_a_supervisor_that_was_killed_is_started_by_check_and_reaches_the_phase(make):
    host = make()
    host.start()
    host.wait_ready(READY_S)
    os.kill(host.process.pid, signal.SIGKILL)
    host.process.wait(10)
    assert host.check() == 1
    host.phase("ROLLOUT", READY_S)
    assert host.status()["ready"]


def test_a_sidecar_and_its_service_see_the_cards_that_the_host_was_told(make):
    host = make(["2", "3"])
    host.start()
    host.wait_ready(READY_S)
    assert {process.environ()["CUDA_VISIBLE_DEVICES"] for process in family(host)} == {"2,3"}


def test_a_sidecar_of_somebody_else_that_is_not_there_has_no_log_here(tmp_path):
    """critic.sidecar.start=false: the message says what must run, and names no file that does not exist."""
    host = SidecarHost("nobody-there", str(tmp_path / "sidecar.yaml"), str(tmp_path / "sidecar.log"), None, 3)
    with pytest.raises(SidecarLostError) as caught:
        host.wait_ready(0.1)
    message = str(caught.value)
    assert "critic.sidecar.start=false" in message and "python -m shm_bridge.inspect list" in message
    assert host.run_id in message and ".log" not in message


def test_a_sidecar_can_be_started_before_it_loads(make):
    """Its run is there at once, for the lanes of environments; the model comes when the others have loaded."""
    host = make()
    host.start(load_when_asked=True)
    with Controller.connect(host.run_id, READY_S) as controller:
        assert controller.alive and not controller.ready
        host.load(READY_S)
        assert controller.ready
    assert host.restarts == 0


def test_a_sidecar_that_is_not_there_yet_is_asked_to_load_when_it_is(make, monkeypatch):
    """The first look for its run comes too early, as on a slow disk."""
    host, connect, tried = make(), Controller.connect, []

    def slow(run_id, timeout):
        tried.append(run_id)
        if len(tried) == 1:
            raise SidecarUnreachable("nothing there yet")
        return connect(run_id, timeout)

    host.start(load_when_asked=True)
    monkeypatch.setattr("verl.workers.sidecar_host.Controller.connect", slow)
    host.load(READY_S)
    assert len(tried) > 1
