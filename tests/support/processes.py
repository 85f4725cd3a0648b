"""Small programs run as processes of their own, for tests of what outlives whom."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shm_bridge.liveness.cleaning import clean_run
from tests.support.launching import ROOT


def new_id() -> str:
    return f"test-{secrets.token_hex(6)}"


def in_shm(run_id: str) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if run_id in name]


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Waits for what another process does; fails when it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def exists(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def program(source: str, *arguments: str, **options) -> Iterator[subprocess.Popen[str]]:
    """Python source as a process; both streams are pipes unless told otherwise. Killed at the end."""
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-c", source, *arguments]
    process = subprocess.Popen(command, **{**defaults, "env": environment, **options})
    try:
        yield process
    finally:
        process.kill()
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=20)


@contextmanager
def run_of(run_id: str) -> Iterator[str]:
    """Removes what is left of it after a test."""
    try:
        yield run_id
    finally:
        clean_run(run_id)
