"""The suite leaves the machine as it found it: no process, nothing in /dev/shm."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import random
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

# Ray turns its tokens on with the first ray.init of a process, for all of its later clusters, and a bare node has none.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
SHM = "/dev/shm/"
MARK = "VLAC_TEST_SESSION"
BEFORE, LEFT = pytest.StashKey[set[str]](), pytest.StashKey[str]()
PATIENCE_S = 10.0  # what was just told to end may take so long
OF_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # end with the interpreter


def pytest_configure(config: pytest.Config) -> None:
    """Remembers what is there; the mark is inherited by xdist's workers and all that tests start."""
    if not hasattr(config, "workerinput"):
        os.environ[MARK] = secrets.token_hex(8)
        config.stash[BEFORE] = set(os.listdir(SHM))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test and fixture draws the same random numbers in every run: random weights are a part of the test. Tests
    of LIBERO are skipped, with the reason, where it is not there."""
    if item.get_closest_marker("libero") is not None and (reason := _no_libero()):
        pytest.skip(reason)
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # not imported here: the bridge's tests run where there is no torch
        sys.modules["torch"].manual_seed(0)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the session when files of /dev/shm or processes are left that were not there before the first test."""
    config = session.config
    if BEFORE not in config.stash:
        return
    before = config.stash[BEFORE]
    left = _once_settled(lambda: [*_processes(os.environ[MARK]), *_files(before)])
    if left:
        config.stash[LEFT] = "the tests left behind: " + ", ".join(left)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if message := config.stash.get(LEFT, ""):
        terminalreporter.write_line(message, red=True)


@functools.cache
def _no_libero() -> str:
    """Why LIBERO cannot be played here, "" where it can."""
    if importlib.util.find_spec("libero") is None:
        return "hf-libero is not installed (pip install 'vlac-rl[libero]')"
    from verl.envs.libero_setup import find_assets
    from verl.errors import AssetsMissingError

    try:
        find_assets(None)
    except AssetsMissingError as error:
        return f"LIBERO's assets are not here: {error}"
    return ""


def _once_settled(look: Callable[[], list[str]]) -> list[str]:
    """What ``look`` finds, when it still finds something after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _processes(mark: str) -> list[str]:
    """Everything alive that this session started."""
    own = {child.pid for child in psutil.Process().children(recursive=True)}
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid in own or process.environ().get(MARK) == mark
            words = " ".join(process.cmdline())
            if process.pid == os.getpid() or not ours or process.status() == psutil.STATUS_ZOMBIE:
                continue
        except psutil.Error:
            continue
        if not any(name in words for name in OF_PYTHON):
            found.append(f"process {process.pid} ({words[:100]})")
    return found


def _files(before: set[str]) -> list[str]:
    """New files in /dev/shm, but for those that somebody else on this machine works with."""
    new = {}
    for name in set(os.listdir(SHM)) - before:
        with contextlib.suppress(FileNotFoundError):
            new[name] = os.stat(SHM + name).st_ino
    used = _in_use() if new else set()
    return sorted(SHM + name for name, inode in new.items() if inode not in used)


def _in_use() -> set[int]:
    """The inodes of what other processes have open in /dev/shm, or mapped.

    By inode, since a semaphore's maker has it mapped under the temporary name that it was made with.
    """
    used: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            lines = (process / "maps").read_text().splitlines()
            used.update(int(line.split(maxsplit=5)[4]) for line in lines if SHM in line)
            opened = [file for file in (process / "fd").iterdir() if os.readlink(file).startswith(SHM)]
            used.update(os.stat(file).st_ino for file in opened)
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return used
