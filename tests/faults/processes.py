"""The processes of one run: found, told apart by role, ended. Only those that this injector started.

A process is known by its number AND its creation time. It belongs to the run when it is a descendant of this process
(a subreaper: orphans come here), of a known one, or carries the run's mark in its environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil

MARK = "VLAC_FAULT_RUN"
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 0.5

ROLES: dict[str, Callable[[str, str], bool]] = {
    "driver": lambda line, name: "verl.trainer.main_ppo" in line,
    "supervisor": lambda line, name: "-m sidecar --config" in line,
    "service": lambda line, name: "sidecar.service_main" in line,
    "env": lambda line, name: "verl.envs.env_main" in line,
    "rollout": lambda line, name: line.startswith("ray::RolloutWorker"),
    "learner": lambda line, name: line.startswith("ray::Learner"),
    "host": lambda line, name: line.startswith("ray::SidecarHost"),
    "raylet": lambda line, name: name == "raylet",
    "gcs": lambda line, name: name.startswith("gcs_server"),
}

LAUNCHES: set[int] = set()  # numbers of the launchers that this process has started: each has a family of its own
LAUNCHING = threading.Lock()  # held while one is started, so that no other family sees it first


def become_subreaper() -> None:
    """Orphans of this process's descendants become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Family:
    """Everything that one launch started, watched by a thread until :meth:`close`.

    Args:
        launch: the launcher's process.
        mark: value of the environment variable ``MARK`` that it was started with.
        subreaper: whether this process is one: then marks need not be read.
    """

    def __init__(self, launch: psutil.Process, mark: str, subreaper: bool) -> None:
        self.launch, self.mark, self.subreaper = launch, mark, subreaper
        self.seen: dict[psutil.Process, str] = {}  # psutil tells processes apart by number and creation time
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="family", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Takes in what is there now."""
        with self._lock:
            found: set[psutil.Process] = set()
            for parent in (self.launch, *(p for p in self.seen if p.is_running())):
                with contextlib.suppress(psutil.Error):
                    found.update((parent, *parent.children(recursive=True)))
            found.update(self._orphans() if self.subreaper else self._marked())
            for process in found:
                with contextlib.suppress(psutil.Error):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        self.seen[process] = " ".join(process.cmdline()) or process.name()

    def _orphans(self) -> Iterator[psutil.Process]:
        """What has come to this process, with all below it; the dead among it are reaped, as a subreaper must."""
        with LAUNCHING:
            strangers = [child for child in psutil.Process().children() if child.pid not in LAUNCHES]
        for child in strangers:
            with contextlib.suppress(psutil.Error, ChildProcessError):
                if child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)
                    continue
                yield from (child, *child.children(recursive=True))

    def _marked(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get(MARK) == self.mark:
                    yield process

    def alive(self) -> list[psutil.Process]:
        """Those that have not ended."""
        self.look()
        with self._lock:
            seen = list(self.seen)
        return [process for process in seen if _lives(process)]

    def role(self, role: str) -> list[psutil.Process]:
        """Those alive that do ``role``, oldest first."""
        found = []
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                if process != self.launch and ROLES[role](" ".join(process.cmdline()), process.name()):
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def drivers(self) -> set[int]:
        """Process numbers of all drivers seen."""
        with self._lock:
            return {process.pid for process, line in self.seen.items() if ROLES["driver"](line, "")}

    def end(self) -> None:
        """Ends all of it, stopped ones too."""
        deadline = time.monotonic() + 20
        while (alive := self.alive()) and time.monotonic() < deadline:
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.1)

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
