"""The soak, short; and a soak that is itself ended early."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.names import entries
from tests.shm_bridge.conftest import ROOT


def test_a_short_soak_ends_without_a_fault():
    """Workers and sidecars are killed; every answer is right, nothing is lost, nothing is left."""
    command = [
        sys.executable,
        "-m",
        "shm_bridge.soak",
        "--minutes",
        "0.2",
        "--workers",
        "2",
        "--kill-worker-every",
        "1.5",
        "--kill-sidecar-every",
        "3",
        "--json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    found = json.loads(result.stdout)
    assert result.returncode == 0 and found["faults"] == [], found
    assert found["wrong"] == 0 and found["answered"] > 0 and found["sidecars"] >= 2 and found["workers_killed"] >= 2


@contextmanager
def running_soak() -> Iterator[subprocess.Popen[bytes]]:
    """A soak that has a worker's lane and a sidecar up."""
    soak = subprocess.Popen([sys.executable, "-m", "shm_bridge.soak", "--minutes", "5", "--workers", "2"], cwd=ROOT)
    try:
        until(lambda: len(list(entries(f"soak-{soak.pid}"))) >= 4, "nothing was started")
        yield soak
    finally:
        soak.kill()
        soak.wait()


def until(true, message: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def processes_of(run_id: str) -> list[Path]:
    """Whoever has a file of the run mapped."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            if run_id in maps.read_text():
                found.append(maps)
    return found


def test_a_soak_that_is_terminated_ends_its_processes_and_leaves_nothing():
    with running_soak() as soak:
        soak.send_signal(signal.SIGTERM)
        assert soak.wait(60) == 143
        assert not list(entries(f"soak-{soak.pid}"))


def test_the_workers_of_a_killed_soak_end_by_themselves():
    with running_soak() as soak:
        soak.kill()
        soak.wait()
        run_id = f"soak-{soak.pid}"
        until(lambda: not processes_of(run_id), "a worker or the sidecar goes on")
        clean_run(run_id)
        assert not list(entries(run_id))
