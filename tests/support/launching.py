"""Runs the launcher as a user does, and looks for what it left."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
QUICK = [
    "data.val_batch_size=2",
    "data.n_samples=2",
    "data.train_batch_size=1",
    "data.filter_accuracy=false",
    "actor_rollout_ref.rollout.envs_per_worker=2",
    "trainer.videos=1",
    "trainer.total_episodes=2",
]
SCRIPTED = ["critic.sidecar.config.engine=fixed", "critic.sidecar.config.fixed.done_at_step=12"]


@dataclass
class Launched:
    """A launcher's process; ``mark`` is in the environment of everything it starts."""

    folder: Path
    arguments: list[str]
    module: str = "verl.launch"
    mark: str = field(default_factory=lambda: f"test-{secrets.token_hex(6)}")
    below: str | None = None  # the source of a program that starts the launcher, whose command it is given

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", self.module, *self.arguments]
        command += [f"trainer.run_id={self.mark}", f"trainer.default_local_dir={self.folder}"]
        if self.below is not None:
            command = [sys.executable, "-c", self.below, *command]
        environment = {**os.environ, "VLAC_TEST_MARK": self.mark, "COLUMNS": "120"}
        if not any(argument.startswith("trainer.ray_address=") for argument in self.arguments):
            environment.pop("RAY_AUTH_MODE", None)  # a Ray of its own is as a user's
        self.output = self.folder / f"{self.mark}.{os.urandom(3).hex()}.out"
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    @property
    def run(self) -> Path:
        return self.folder / self.mark

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait(self, timeout: float = 150) -> int:
        """Its exit code; killed, with its output in the error, when it takes too long."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            raise AssertionError(f"still running after {timeout} s:\n{self.text()}") from None

    def wait_for(self, words: str, timeout: float = 120) -> None:
        """Until ``words`` are in its output."""
        self.until(lambda: words in self.text(), timeout, repr(words))

    def until(self, reached: Callable[[], bool], timeout: float = 120, what: str = "change") -> None:
        """Until ``reached()``; fails when the run ends before."""
        deadline = time.monotonic() + timeout
        while not reached():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"no {what} within {timeout} s:\n{self.text()}"
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Everything alive that it started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("VLAC_TEST_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def service(self) -> psutil.Process:
        """The sidecar's service: the child that serves the lanes."""
        (service,) = [p for p in self.processes() if "sidecar.service_main" in p.cmdline()]
        return service

    def leftovers(self) -> list[str]:
        """Processes, segments and semaphores that are still there."""
        left = [f"{p.pid} {' '.join(p.cmdline())[:80]}" for p in self.processes()]
        return left + [name for name in os.listdir("/dev/shm") if self.mark in name]
