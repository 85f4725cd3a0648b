"""One run, one owner: held by a lock that goes with its holder, and by nobody who outlives it."""

from __future__ import annotations

import errno
import os
import signal
import time
from unittest.mock import Mock

import pytest

from shm_bridge import Server
from shm_bridge.liveness.cleaning import clean_run, leftovers
from tests.support.processes import in_shm, new_id, program, run_of
from verl.errors import ConfigError, RunInUseError
from verl.launch import claim as claims
from verl.launch.claim import claim_as_launcher, claim_as_trainer, claimed_folder

HOLD = """
import sys, time
from pathlib import Path
from verl.launch.claim import *
how, run_id = sys.argv[1:3]
held = {"launcher": claim_as_launcher, "trainer": claim_as_trainer}[how](run_id)
if len(sys.argv) > 3:
    folder = claimed_folder(Path(sys.argv[3])); folder.__enter__()
print("held", flush=True)
sys.stdin.readline(); held.ending(); print("ending", flush=True)
sys.stdin.readline(); held.release()
"""
LEAVES_CHILDREN = """
import os, subprocess, sys, time
from pathlib import Path
from verl.launch.claim import *
held, folder = claim_as_trainer(sys.argv[1]), claimed_folder(Path(sys.argv[2])); folder.__enter__()
started = subprocess.Popen(["sleep", "60"], close_fds=False, start_new_session=True)
forked = os.fork() or (time.sleep(60), os._exit(0))
print(started.pid, forked, flush=True)
time.sleep(60)
"""

LAUNCHES = """
import os, subprocess, sys, time
from verl.launch.claim import *
held = claim_as_launcher(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2], "trainer", sys.argv[1]]
read, write = os.pipe()  # the child holds both ends: it waits, whoever dies
child = subprocess.Popen(command, stdin=read, pass_fds=(write,), stdout=subprocess.PIPE, text=True)
assert child.stdout.readline() == "held\\n"
print(child.pid, flush=True)
time.sleep(60)
"""
SERVES = """
import sys, time
from shm_bridge import Server
server = Server.create(sys.argv[1])
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run_id():
    with run_of(new_id()) as name:
        yield name


@pytest.mark.parametrize("how", ["launcher", "trainer"])
@pytest.mark.parametrize("second", [claim_as_launcher, claim_as_trainer])
def test_a_second_owner_is_refused_at_once_and_told_who_it_is(run_id, how, second):
    with program(HOLD, how, run_id, stdin=-1) as owner:
        assert owner.stdout.readline() == "held\n"
        started = time.monotonic()
        with pytest.raises(RunInUseError, match=rf"trainer.run_id={run_id} is in use: process {owner.pid} .*since 20"):
            second(run_id)
        assert time.monotonic() - started < 2
        assert in_shm(run_id) == [f"vlac:{run_id}:lock"]  # refusing it took nothing from the owner
        owner.communicate("\n\n", timeout=20)
    assert in_shm(run_id) == []


def test_two_at_the_same_instant_are_one(run_id):
    """Whoever is refused never held anything that could have refused the other, too."""
    for _ in range(3):
        with program(HOLD, "launcher", run_id, stdin=-1) as one, program(HOLD, "launcher", run_id, stdin=-1) as other:
            said = sorted([one.stdout.readline(), other.stdout.readline()])
            assert said == ["", "held\n"]


def test_a_killed_owner_is_none_and_its_children_are_not_it(run_id, tmp_path):
    """A child of another program and a forked one live on; the run and its folder are free at once."""
    with program(LEAVES_CHILDREN, run_id, str(tmp_path / "run")) as owner:
        children = [int(pid) for pid in owner.stdout.readline().split()]
        try:
            with pytest.raises(RunInUseError):
                claim_as_launcher(run_id)
            with pytest.raises(RunInUseError), claimed_folder(tmp_path / "run"):
                pass
            owner.kill()
            owner.wait(10)
            assert all(os.kill(pid, 0) is None for pid in children)
            claim_as_trainer(run_id).release()
            with claimed_folder(tmp_path / "run"):
                pass
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
    assert in_shm(run_id) == []


def test_a_folder_on_a_full_disk_is_named(tmp_path, monkeypatch):
    """The system's own error knows no name: the file was opened before."""
    monkeypatch.setattr(os, "pwrite", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left on device: '.*/run/\.owner'"), claimed_folder(tmp_path / "run"):
        pass


def test_who_comes_while_a_launcher_cleans_up_waits_for_its_end(run_id):
    with program(HOLD, "launcher", run_id, stdin=-1) as owner:
        assert owner.stdout.readline() == "held\n"
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "ending\n"
        with program(HOLD, "trainer", run_id, stdin=-1) as next_one:
            time.sleep(1.0)  # it is waiting, neither refused nor an owner
            assert next_one.poll() is None
            owner.stdin.write("\n")
            owner.stdin.flush()
            assert next_one.stdout.readline() == "held\n"


def test_a_trainer_whose_launcher_was_killed_is_waited_for(run_id, monkeypatch):
    """It ends in order; one that does not is named."""
    monkeypatch.setattr(claims, "PATIENCE_S", 0.5)
    with program(LAUNCHES, run_id, HOLD) as launcher:
        trainer = int(launcher.stdout.readline())
        launcher.kill()
        launcher.wait(10)
        try:
            with pytest.raises(RunInUseError, match=rf"process {trainer} .* is what is left of an earlier run"):
                claim_as_launcher(run_id)
        finally:
            os.kill(trainer, signal.SIGKILL)
        claim_as_launcher(run_id).release()


def test_the_sidecar_of_a_killed_run_is_waited_for(run_id):
    owner = claim_as_trainer(run_id)
    try:
        owner.wait_vacant(0)
        with program(SERVES, run_id) as sidecar:
            assert sidecar.stdout.readline() == "up\n"
            with pytest.raises(RunInUseError, match=f"process {sidecar.pid} "):
                owner.wait_vacant(0.3)
            sidecar.kill()
            owner.wait_vacant(10)
    finally:
        owner.release()


def test_cleaning_leaves_an_owners_lock_file_alone(run_id):
    """Else a second owner would find no file, make another, and both would hold a lock."""
    owner = claim_as_launcher(run_id)
    Server.create(run_id).close()
    assert in_shm(run_id) == [f"vlac:{run_id}:lock"]
    assert leftovers(run_id) == [] and clean_run(run_id) == []
    owner.release()
    assert in_shm(run_id) == []


def test_a_name_that_cannot_be_one_is_a_mistake():
    with pytest.raises(ConfigError, match=r"trainer.run_id=a/b"):
        claim_as_launcher("a/b")
