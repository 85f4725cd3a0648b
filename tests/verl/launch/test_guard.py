"""The launcher's process: signals at any moment, ends that nobody told, and everything gone after each."""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.processes import exists, in_shm, new_id, program, run_of, until

GUARD = """
import sys
from verl.launch.claim import claim_as_launcher
from verl.launch.guard import run_guarded
claim = claim_as_launcher(sys.argv[1])
code = run_guarded([sys.executable, "-c", sys.argv[2], *sys.argv[3:]], claim)
claim.release()
sys.exit(code)
"""
QUICK_GUARD = GUARD.replace("claim = claim", "from verl.launch import guard; guard.GRACE_S = 0.5\nclaim = claim")
# A trainer with a lane and a process that holds on to life, in a session of its own.
STUBBORN = """
import os, signal, subprocess, sys, time
from shm_bridge import Server
from verl.launch import interrupt
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
server = Server.create(sys.argv[1])
interrupt.install()
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
SILENT = """
import os, sys
from pathlib import Path
from verl.launch import words
words.take_over()
logs = Path(sys.argv[1], "logs"); logs.mkdir()
session = Path(sys.argv[1], f"session_2026-01-01_00-00-00_1_{os.getpid()}")
(session / "logs").mkdir(parents=True)
log = session / "logs" / f"python-core-driver-01_{os.getpid()}.log"
log.write_text("[0 E 1] Failed to connect to GCS.\\n   42\\n")
words.say("folder", path=sys.argv[1]); words.say("ray", session=str(session))
os._exit(int(sys.argv[2]))  # as C++ code does
"""


@pytest.fixture
def run_id():
    with run_of(new_id()) as name:
        yield name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_it_cleans_up_does_not_stop_that(run_id, number):
    """The trainer is killed, say by a kernel out of memory; from then on whoever presses Ctrl-C only waits."""
    with program(GUARD, run_id, STUBBORN, run_id, start_new_session=True) as guard:
        trainer, child = map(int, guard.stdout.readline().split())
        os.kill(trainer, signal.SIGKILL)
        for _ in range(8):
            time.sleep(0.2)
            guard.send_signal(number)
        assert exists(child)  # the guard was still at it
        assert guard.wait(20) == 128 + signal.SIGKILL
        assert not exists(child) and in_shm(run_id) == []
        said = guard.stderr.read()
        assert "Traceback" not in said and "killed by SIGKILL" in said and "cleaning up" in said


# It needs a while for its checkpoint, however often a scheduler asks; SIGINT is what the guard sends it.
SAVES = """
import signal, sys, time
from verl.launch import words
words.take_over()
def save(number, frame):
    print("saving", flush=True)
    time.sleep(3)
    print("saved", flush=True)
    words.say("end", code=130)
    sys.exit(130)
signal.signal(signal.SIGINT, save)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
words.say(words.PATIENCE, seconds=float(sys.argv[1]))
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_the_trainer_has_the_time_that_it_told_of(run_id, number):
    """The grace alone is too short for its checkpoint; the same signal again does not take the time away."""
    default = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # the tests may run below nohup
    with program(QUICK_GUARD, run_id, SAVES, "30", start_new_session=True, preexec_fn=default) as guard:
        assert guard.stdout.readline() == "up\n"
        guard.send_signal(number)
        assert guard.stdout.readline() == "saving\n"
        guard.send_signal(number)
        assert guard.stdout.readline() == "saved\n"
        assert guard.wait(20) == 130


def test_when_that_time_is_over_it_is_killed(run_id):
    with program(QUICK_GUARD, run_id, SAVES, "0", start_new_session=True) as guard:
        assert guard.stdout.readline() == "up\n"
        guard.send_signal(signal.SIGTERM)
        assert guard.wait(20) == 128 + signal.SIGKILL
        assert "killed by SIGKILL" not in guard.stdout.read()


def test_a_third_press_does_not_leave_anything(run_id):
    with program(
        GUARD,
        run_id,
        STUBBORN.replace("interrupt.install()", "signal.signal(signal.SIGINT, signal.SIG_IGN)"),
        run_id,
        start_new_session=True,
    ) as guard:
        trainer, child = map(int, guard.stdout.readline().split())
        for _ in range(3):
            guard.send_signal(signal.SIGINT)
            time.sleep(0.3)
        guard.wait(20)
        assert not exists(trainer) and not exists(child) and in_shm(run_id) == []


@pytest.mark.parametrize("code", [1, 0])
def test_an_end_without_a_word_is_told(run_id, tmp_path, code):
    """Exit code 1, a line on the screen and in the log with Ray's last one; Ray's logs are kept, its folder is not."""
    with program(GUARD, run_id, SILENT, str(tmp_path), str(code)) as guard:
        assert guard.wait(20) == 1
        said = guard.stderr.read()
    assert f"error: the training ended without a word, with exit code {code}; Ray's last line: [0 E 1] Failed" in said
    assert "ended without a word" in (tmp_path / "logs" / "driver.log").read_text()
    assert not list(tmp_path.glob("session_*")) and list((tmp_path / "logs" / "ray").glob("python-core-driver*"))


def test_an_end_that_was_told_is_not_told_again(run_id):
    source = "from verl.launch import words; words.take_over(); words.say('end', code=1); raise SystemExit(1)"
    with program(GUARD, run_id, source) as guard:
        assert guard.wait(20) == 1 and guard.stderr.read() == ""


def test_ctrl_c_in_the_first_second_is_no_traceback(run_id, tmp_path):
    """At any moment of the two interpreters' start: exit code 130, nothing is left."""
    arguments = [f"trainer.run_id={run_id}", f"trainer.default_local_dir={tmp_path}"]
    launch = f"import runpy, sys; sys.argv[1:] = {arguments}"
    for pause in (0.1, 0.3, 0.5, 0.7, 0.9):
        with program(
            f"print('up', flush=True); {launch}; runpy.run_module('verl.launch', run_name='__main__')",
            start_new_session=True,
            env={"COLUMNS": "160"},
        ) as launcher:
            assert launcher.stdout.readline() == "up\n"
            time.sleep(pause)
            launcher.send_signal(signal.SIGINT)
            code = launcher.wait(60)
            said = launcher.stdout.read() + launcher.stderr.read()
            assert code == 130 and "Traceback" not in said and "interrupted" in said, (pause, code, said)
    assert in_shm(run_id) == []


REAPED = """
import os, signal, subprocess, sys, time
from pathlib import Path
from shm_bridge import Server
from verl.launch import remains
from verl.launch.reaper import Reaper
reaper = Reaper("a mark", [sys.argv[1]], Path(sys.argv[2], "driver.log"))
os.environ[remains.MARK] = "a mark"
session = Path(sys.argv[2], f"session_2026-01-01_00-00-00_1_{os.getpid()}"); session.mkdir()
reaper.tell_session(str(session))
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, start_new_session=True, env={**os.environ})
other = subprocess.Popen(sleep, start_new_session=True, env={**os.environ, remains.MARK: "another's"})
with open(session / "worker.log", "w") as log:
    titled = subprocess.Popen(sleep, start_new_session=True, env={}, stdout=log)
server = Server.create(sys.argv[1])
print(os.getpid(), reaper._process.pid, child.pid, titled.pid, other.pid, flush=True)
if sys.stdin.readline() == "end\\n":
    server.close(); reaper.dismiss(); print("dismissed", flush=True)
time.sleep(60)
"""


def test_what_a_killed_trainer_started_ends_whoever_inherits_it(run_id, tmp_path):
    """Without a launcher, without process 1 as their parent: a stopped trainer keeps all, a killed one nothing."""
    with program(REAPED, run_id, str(tmp_path), stdin=-1) as trainer:
        _, reaper, child, titled, other = map(int, trainer.stdout.readline().split())
        try:
            os.kill(trainer.pid, signal.SIGSTOP)
            time.sleep(1.5)
            assert all(map(exists, (reaper, child, titled)))
            os.kill(trainer.pid, signal.SIGKILL)
            until(lambda: not any(map(exists, (reaper, child, titled))))
            assert exists(other)  # another run's
            assert in_shm(run_id) == [] and not list(tmp_path.glob("session_*"))
            assert "gone without a word" in (tmp_path / "driver.log").read_text()
        finally:
            os.kill(other, signal.SIGKILL)


def test_a_trainer_that_cleans_up_itself_dismisses_it(run_id, tmp_path):
    with program(REAPED, run_id, str(tmp_path), stdin=-1) as trainer:
        _, reaper, child, titled, other = map(int, trainer.stdout.readline().split())
        trainer.stdin.write("end\n")
        trainer.stdin.flush()
        assert trainer.stdout.readline() == "dismissed\n"
        assert not exists(reaper) and exists(child) and Path(tmp_path, "driver.log").read_text() == ""
        for pid in (child, titled, other):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("where", ["verl.launch.claim.claim_as_launcher", "verl.launch.guard.run_guarded"])
def test_ctrl_c_before_the_guard_watches_is_told(run_id, where):
    """While the run's id is claimed, and before the guard has taken the signals over."""
    module, name = where.rsplit(".", 1)
    source = f"""
import {module} as module
from verl.launch.__main__ import main
def stop(*_):
    raise KeyboardInterrupt
module.{name} = stop
raise SystemExit(main(["trainer.run_id={run_id}"]))
"""
    with program(source) as launcher:
        assert launcher.wait(20) == 130 and "interrupted" in launcher.stderr.read()
    assert in_shm(run_id) == []
