"""A command with a limit leaves nothing behind, however it ends."""

from __future__ import annotations

import os
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
print("begun", flush=True)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(float(sys.argv[2]))
"""
CLEANS = """
import signal, sys, time
def clean(*_):
    print("cleaned", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, clean)
open(sys.argv[1], "w").write("0")
time.sleep(600)
"""


@pytest.fixture
def file(tmp_path) -> Path:
    """What a command writes as soon as it has begun: the number of a process that SIGTERM does not end."""
    return tmp_path / "pid"


@pytest.fixture
def ends(monkeypatch, file):
    """Lets the first wait for a command end with an error as soon as the command has begun."""

    def by(error: BaseException) -> None:
        def wait(process, timeout=None):
            while not file.exists() or not file.read_text():
                time.sleep(0.01)
            monkeypatch.undo()
            raise error

        monkeypatch.setattr(subprocess.Popen, "wait", wait)

    return by


def run(code: str, *arguments: object, grace_s: float = 30.0) -> limited.Ended:
    return run_limited([sys.executable, "-c", code, *map(str, arguments)], 60, {}, grace_s)


def is_gone(file: Path) -> bool:
    end = time.monotonic() + 10
    pid = int(file.read_text())
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.01)
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_one_that_is_too_slow_is_ended_with_what_it_has_started(file, ends):
    ends(subprocess.TimeoutExpired("python", 60))
    assert run(STUBBORN, file, 600) == limited.Ended(None, "begun\n", "") and is_gone(file)


def test_what_one_that_is_done_has_left_is_ended_and_not_waited_for(file):
    assert run(STUBBORN, file, 0).code == 0 and is_gone(file)


def test_an_interrupt_ends_it_too(file, ends):
    ends(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(STUBBORN, file, 600)
    assert is_gone(file)


@pytest.mark.parametrize(("grace_s", "said"), [(60.0, "cleaned\n"), (0.0, "")])
def test_it_has_time_to_clean_up_where_it_is_given(file, ends, grace_s, said):
    ends(subprocess.TimeoutExpired("python", 60))
    assert run(CLEANS, file, grace_s=grace_s) == limited.Ended(None, said, "")


def test_one_that_cannot_be_killed_is_not_waited_for(file, ends):
    """It waits for a driver that does not answer."""
    kill = os.killpg
    ends(subprocess.TimeoutExpired("python", 60))
    with pytest.MonkeyPatch.context() as never:
        groups: list[int] = []
        never.setattr(os, "killpg", lambda group, number: groups.append(group))
        never.setattr(limited, "KILLED_S", 0.1)
        assert run(CLEANS, file, grace_s=0.0).code is None
    kill(groups[0], 9)
    psutil.Process(groups[0]).wait(10)


def test_its_variables_output_and_exit_code_are_told():
    code = "import os, sys; print(os.environ['A'], 'PATH' in os.environ); sys.exit('why')"
    assert run_limited([sys.executable, "-c", code], 60, {"A": "b"}) == limited.Ended(1, "b True\n", "why\n")
