"""What is measured is what runs: the bridge's benchmark makes the calls of a training, frame by frame."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shm_bridge import Controller
from tests.shm_bridge.conftest import ROOT
from tests.verl.envs.test_critic_link import pool_of, training
from tests.verl.envs.test_pool import drive

# Every Python process beside this file writes the name of each public method of Lane and Server at its first call.
TRACER = """
import functools, os
from shm_bridge import Lane, Server

def traced(kind, name, method):
    called = []
    @functools.wraps(method)
    def call(*arguments, **named):
        if not called:
            called.append(True)
            with open(os.environ["BRIDGE_CALLS"], "a") as file:
                file.write(f"{kind.__name__}.{name}\\n")
        return method(*arguments, **named)
    return call

for kind in (Lane, Server):
    for name, method in list(vars(kind).items()):
        if callable(method) and not name.startswith("_"):
            setattr(kind, name, traced(kind, name, method))
"""
ONCE = {  # a process, an episode, a phase or a second; all else is called for a frame
    "Lane.begin_episode",
    "Lane.cancel",
    "Lane.close",
    "Lane.end_episode",
    "Server.acknowledge_phase",
    "Server.close",
    "Server.files_removed",
    "Server.publish_metrics",
    "Server.set_ready",
}


def names(file: Path) -> set[str]:
    return set(file.read_text().split()) - ONCE


def play(run_id: str) -> None:
    """Two episodes of a training, by an environment process and the sidecar's service."""
    command = [sys.executable, "-m", "sidecar", f"run_id={run_id}", "engine=fixed", "fixed.delay_ms=20"]
    with subprocess.Popen(command, cwd=ROOT) as sidecar:
        try:
            with Controller.connect(run_id, 60) as controller:
                controller.wait_ready(60)
            pool = pool_of(run_id, overlap=False)  # so that it waits, too, whatever the order of things
            for episode in range(2):
                pool.submit(training(episode))
            drive(pool, 2)
            pool.close()
        finally:
            sidecar.terminate()
            sidecar.wait(20)


def test_the_benchmark_makes_the_calls_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods of Lane and Server that an environment and the sidecar call are those that the benchmark calls."""
    (tmp_path / "sitecustomize.py").write_text(TRACER)
    monkeypatch.syspath_prepend(str(tmp_path))  # an environment process gets this process's path
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("BRIDGE_CALLS", str(tmp_path / "training"))
    play(f"test-road-{os.getpid()}")
    monkeypatch.setenv("BRIDGE_CALLS", str(tmp_path / "bench"))
    options = ["--json", "--peers", "--frames", "32", "--workers", "1", "--rounds", "30", "--repeats", "1"]
    subprocess.run([sys.executable, "-m", "shm_bridge.bench", *options], cwd=ROOT, check=True, timeout=120)
    assert names(tmp_path / "bench") == names(tmp_path / "training") != set()
