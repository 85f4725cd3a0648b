"""Trials in processes of their own: each ends in its time, and a dead one is a line."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import psutil
import pytest

from verl import limited
from verl.preflight.line import BAD, GOOD
from verl.preflight.steps import Step, run_step


@pytest.fixture
def instead(monkeypatch):
    """Runs this code in the place of the trial."""

    def of(code: str) -> None:
        real = subprocess.Popen
        monkeypatch.setattr(
            limited.subprocess, "Popen", lambda command, **more: real([sys.executable, "-c", code], **more)
        )

    return of


def test_a_trial_says_its_lines_among_what_others_print(instead):
    instead("from verl.preflight import steps, line; print('noise'); steps.say(line.good('frame', 'drawn'))")
    (line,) = run_step(Step("frame", "frame", 60), [])
    assert (line.name, line.state) == ("frame", GOOD) and line.said.startswith("drawn (")


def test_one_that_hangs_is_ended_and_told(instead, tmp_path):
    """With all that it has started, what does not end when it is asked to as well."""
    file = tmp_path / "pid"
    instead(
        "import subprocess, time; quiet = subprocess.DEVNULL; print('waiting for a card', flush=True)\n"
        "stays = ['sh', '-c', \"trap '' TERM; exec sleep 600\"]\n"
        f"open({str(file)!r}, 'w').write(str(subprocess.Popen(stays, stdout=quiet, stderr=quiet).pid))\n"
        "time.sleep(600)"
    )
    (line,) = run_step(Step("frame", "frame", 5), [])
    assert line.state == BAD and "not done within 5 s" in line.said and "waiting for a card" in line.said
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(file.read_text())).wait(10)


def test_one_that_is_killed_is_told(instead):
    instead("import os; os.kill(os.getpid(), 9)")
    (line,) = run_step(Step("policy's pass", "policy", 60), [])
    assert line.state == BAD and "signal 9 (out of memory?)" in line.said


def test_one_that_crashes_is_told_with_its_last_words(instead):
    instead("raise SystemExit('no libEGL.so')")
    (line,) = run_step(Step("frame", "frame", 60), [])
    assert line.state == BAD and line.said.startswith("exit code 1; it said: no libEGL.so")
