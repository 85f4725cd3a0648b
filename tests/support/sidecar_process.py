"""A real sidecar process with its run, for tests; and what asks it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shm_bridge import CameraSpec, Controller, Kind, Lane, LaneSpec, Verdict
from shm_bridge.inspect import clean_run

ROOT = Path(__file__).resolve().parents[2]
SPEC = LaneSpec(cameras=(CameraSpec("agentview", 16, 16),), frames=40)
READY_S = 60.0


@dataclass
class Sidecar:
    """A started ``python -m sidecar``. ``log`` holds what it said."""

    run_id: str
    process: subprocess.Popen[bytes]
    log: Path
    lanes: list[Lane] = field(default_factory=list)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout: float = READY_S) -> None:
        with Controller.connect(self.run_id, timeout) as controller:
            controller.wait_ready(timeout)

    def status(self) -> dict[str, object]:
        with Controller.connect(self.run_id, 10) as controller:
            return controller.status()

    def service_pid(self) -> int:
        pid = self.status()["pid"]
        assert isinstance(pid, int)
        return pid

    def lane(self, name: str = "env-0", episode: int = 0) -> Lane:
        """An attached lane with an episode begun; closed with the sidecar."""
        lane = Lane.attach(self.run_id, SPEC, timeout=30, name=name, grace=30)
        self.lanes.append(lane)
        lane.begin_episode(episode, "lift the red cube")
        return lane

    def stop(self, timeout: float = 20.0) -> int:
        self.process.terminate()
        return self.process.wait(timeout)


def show(lane: Lane, step: int) -> int:
    """Publishes a frame for ``step`` and asks whether the task is done; the ticket."""
    frame = lane.reserve()
    frame["agentview"][...] = np.random.default_rng(step).integers(0, 256, (16, 16, 3), np.uint8)
    lane.publish(frame, step)
    return lane.ask(Kind.DONE, frame)


def verdict(lane: Lane, step: int, timeout: float = 30.0) -> Verdict:
    """The verdict on a new frame."""
    return lane.wait(show(lane, step), timeout)


@contextmanager
def sidecar(folder: Path, *overrides: str, engine: str = "fixed", ready: bool = True) -> Iterator[Sidecar]:
    """Starts one with ``key=value`` overrides; ends it, its lanes and its run behind the test."""
    run_id = f"test-{secrets.token_hex(5)}"
    log = folder / f"{run_id}.log"
    command = [sys.executable, "-m", "sidecar", f"run_id={run_id}", f"engine={engine}", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=ROOT)
    one = Sidecar(run_id, process, log)
    try:
        if ready:
            one.wait_ready()
        yield one
    except Exception:
        sys.stderr.write(one.said)
        raise
    finally:
        for lane in one.lanes:
            lane.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        until(lambda: _nothing_left(run_id))  # a killed service takes a moment to let go


def _nothing_left(run_id: str) -> bool:
    clean_run(run_id)
    return not leftovers(run_id)


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Waits for what another process does; fails when it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def leftovers(run_id: str) -> list[str]:
    """What of a run is in /dev/shm."""
    return [name for name in os.listdir("/dev/shm") if run_id in name]


def alive(pid: int) -> bool:
    """Whether any of the process's threads runs (a zombie does not).

    The first thread may be a zombie already while another still ends, and holds what the process had open until then.
    """
    states = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(thread.read_text().rsplit(")", 1)[1].split()[0])
    return any(state not in "ZX" for state in states)
