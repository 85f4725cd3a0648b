"""The check that stands behind the whole suite: it sees what a test leaves, and names it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launching import ROOT

LEAVES = """
import subprocess, sys

def test_leaves():
    open("/dev/shm/{name}", "w").close()
    sleep = "import os, time; os.setsid() if os.fork() == 0 else os._exit(0); time.sleep(60)"
    subprocess.run([sys.executable, "-c", sleep, "{name}"], timeout=30)
"""


CONFTEST = """
import tests.conftest
from tests.conftest import pytest_configure, pytest_sessionfinish, pytest_terminal_summary
tests.conftest.PATIENCE_S = 0.5
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_file_and_an_orphan_are_named(tmp_path, workers):
    """A test that passes but leaves a file and a process that has left its parent: the session fails with both."""
    name = f"left-{secrets.token_hex(6)}"
    (tmp_path / "test_leaves.py").write_text(LEAVES.format(name=name))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    orphan = _orphan(name)
    try:
        message = next(line for line in done.stdout.splitlines() if line.startswith("the tests left behind"))
        assert done.returncode == 1 and f"/dev/shm/{name}" in message
        assert f"process {orphan}" in message
    finally:
        os.kill(orphan, signal.SIGKILL)
        Path("/dev/shm", name).unlink()


def _orphan(name: str) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if name.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"no process {name}")
