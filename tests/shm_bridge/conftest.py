"""Real sidecars and workers in processes of their own, and a look that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shm_bridge import CameraSpec, LaneSpec, Orientation, backend
from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.names import entries

ROOT = Path(__file__).parents[2]
CAMERA = CameraSpec("agentview", 16, 24, orientation=Orientation.FLIP_ROWS)
SPEC = LaneSpec((CAMERA,), frames=9, questions=8)


class Child:
    """A Python process that says lines on standard output; killed at the end of the test."""

    def __init__(self, code: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        command = [sys.executable, "-c", code, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line; ends with the test's own time limit when none comes."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            raise AssertionError(f"the child ended with {self.process.wait(10)} before it said a line")
        return text.strip()

    def say(self, text: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(20)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


def use_backend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is made from now on, in this process and in its children: "python" or "native"."""
    monkeypatch.setenv("SHM_BRIDGE_NATIVE", "0" if name == "python" else "1")
    backend.native.cache_clear()


@pytest.fixture(params=["python", "native"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that asks for it runs twice, children included: with either backend."""
    use_backend(request.param, monkeypatch)
    if request.param == "native" and backend.native() is None:
        pytest.skip("the native backend is not built: python -m shm_bridge.build_native")
    yield
    backend.native.cache_clear()


@pytest.fixture
def run_id() -> Iterator[str]:
    """A run of its own for each test. Whatever was killed in it, everybody is dead now: all of it can be removed."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    clean_run(name)
    assert [entry.file for entry in entries(name)] == []


@pytest.fixture
def child(run_id: str) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(code: str, *arguments: str, **options: object) -> Child:
        children.append(Child(code, *arguments, **options))  # type: ignore[arg-type]
        return children[-1]

    yield start
    for process in children:
        process.end()


SIDECAR = """
import sys
from tests.shm_bridge.echo import serve
serve(*sys.argv[1:])
"""


@pytest.fixture
def sidecar(child: Callable[..., Child], run_id: str) -> Callable[..., Child]:
    """Starts a sidecar process that answers from the frame's first pixel; returns when it serves."""

    def start(mode: str = "answer", run: str = run_id) -> Child:
        process = child(SIDECAR, run, mode)
        assert process.line() == "serving"
        return process

    return start
