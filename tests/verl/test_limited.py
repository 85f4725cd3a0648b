"""A command with a limit leaves nothing behind, however it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from verl import limited
from verl.limited import run_limited

STUBBORN = """
import subprocess, sys, time
child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 600"], stdout=subprocess.PIPE)
child.stdout.readline()  # now it ignores SIGTERM
open(sys.argv[1], "w").write(str(child.pid))
print("begun", flush=True)
time.sleep(float(sys.argv[2]))
"""


def run(file: Path, seconds: float, limit_s: float, grace_s: float = 30.0) -> limited.Ended:
    """A command that starts a process which SIGTERM does not end, and writes its number to ``file``."""
    return run_limited([sys.executable, "-c", STUBBORN, str(file), str(seconds)], limit_s, {}, grace_s)


def is_gone(file: Path) -> bool:
    end = time.monotonic() + 10
    pid = int(file.read_text())
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.01)
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_one_that_is_too_slow_is_ended_with_what_it_has_started(tmp_path):
    ended = run(tmp_path / "pid", 600, 5)
    assert ended.code is None and ended.output == "begun\n" and is_gone(tmp_path / "pid")


def test_what_one_that_is_done_has_left_is_ended_and_not_waited_for(tmp_path):
    ended = run(tmp_path / "pid", 0, 60)
    assert ended.code == 0 and is_gone(tmp_path / "pid")


def test_an_interrupt_ends_it_too(tmp_path, monkeypatch):
    """As soon as it has begun."""

    def wait(process, timeout=None):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "pid", 600, 60)
    assert is_gone(tmp_path / "pid")


def test_it_has_time_to_clean_up():
    code = """
import signal, sys, time
def clean(*_):
    print("cleaned", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, clean)
time.sleep(600)
"""
    assert run_limited([sys.executable, "-c", code], 5, {}, 60).output == "cleaned\n"
    assert run_limited([sys.executable, "-c", code], 0.1, {}).output == ""


def test_its_variables_output_and_exit_code_are_told():
    code = "import os, sys; print(os.environ['A'], 'PATH' in os.environ); sys.exit('why')"
    assert run_limited([sys.executable, "-c", code], 60, {"A": "b"}) == limited.Ended(1, "b True\n", "why\n")
