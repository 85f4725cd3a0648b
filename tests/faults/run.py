"""A run of the product, as a user starts it: waited for, broken, and looked at when it is over."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from shm_bridge import BridgeError, Controller
from shm_bridge.liveness.cleaning import clean_run
from tests.faults.judge import Facts
from tests.faults.processes import LAUNCHES, LAUNCHING, MARK, Family

ROOT = Path(__file__).parents[2]
BASE = (
    "env.name=tests.faults.fenv:FaultEnv",
    "env.max_steps=24",
    "+env.step_s=0.05",
    "critic.sidecar.config.engine=fixed",
    "critic.sidecar.config.fixed.done_at_step=12",
    "data.n_samples=4",
    "data.train_batch_size=4",
    "data.val_batch_size=4",
    "data.filter_accuracy=false",
    "trainer.videos=0",
    "trainer.logger=[console]",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=1",
    "critic.audit_min_precision=0",
)
TOTAL = 32  # episodes: two updates
LONG_UPDATE = ("actor_rollout_ref.actor.ppo_epochs=15",)  # seconds in which to break something
REACH_S = 300.0  # for a state to be reached, on a machine with much else to do
SETTLE_S = 3.0  # after the launcher's end, for what it ended last
POLL_S = 0.05


class NotReached(Exception):
    """The run did not come to the state in which the fault was to happen."""


@dataclass(slots=True)
class Options:
    """How a run is started, beside its configuration.

    ``stdout``: a descriptor in the place of the file that keeps the screen. ``base``: what all runs have in common.
    """

    run_id: str | None = None
    total: int = TOTAL
    environ: Mapping[str, str] = field(default_factory=dict)
    stdout: int | None = None
    base: Sequence[str] = BASE


class Run:
    """Started when made. ``runs``: where its folder lies; ``expected``: the rows of the undisturbed run."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        runs: Path,
        expected: dict[int, dict[str, Any]],
        subreaper: bool,
        options: Options,
    ) -> None:
        self.arguments = tuple(arguments)
        self.id = options.run_id or f"f-{name[:24]}-{secrets.token_hex(3)}"
        self.folder, self.total, self.expected = runs / self.id, options.total, expected
        self.output = runs.parent / f"{self.id}-{secrets.token_hex(2)}.out"
        self.notes: list[str] = []
        self.fault_at: float | None = None
        self.started = time.monotonic()
        self._started_wall = time.time()
        command = [sys.executable, "-m", "verl.launch", *options.base, f"trainer.total_episodes={self.total}"]
        command += [*arguments, f"trainer.run_id={self.id}", f"trainer.default_local_dir={runs}"]
        mark = secrets.token_hex(8)
        environ = {**os.environ, "COLUMNS": "160", MARK: mark, **options.environ}
        with open(self.output, "wb") as file, LAUNCHING:
            out = file if options.stdout is None else options.stdout
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environ, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            LAUNCHES.add(self.process.pid)
        self.launcher = psutil.Process(self.process.pid)
        self.family = Family(self.launcher, mark, subreaper)

    # ---- what it shows

    def screen(self) -> str:
        return self.output.read_text(errors="replace")

    def log(self) -> str:
        """``logs/driver.log``."""
        path = self.folder / "logs" / "driver.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def rows(self) -> list[dict[str, Any]]:
        """Training rows of ``episodes.jsonl``."""
        path = self.folder / "episodes.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                rows.append({"broken": line})
        return [row for row in rows if row.get("training", True)]

    def phase(self) -> str | None:
        """The sidecar's phase; None while none answers."""
        try:
            with Controller.connect(self.id, 0.05) as controller:
                return controller.status()["phase"]
        except (BridgeError, OSError):
            return None

    # ---- waiting for a state

    def until(self, reached: Callable[[], Any], what: str, timeout: float = REACH_S) -> Any:
        """The first true result of ``reached``. Raises NotReached when the run ends before, or after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while not (result := reached()):
            if self.process.poll() is not None:
                raise NotReached(f"ended with {self.process.returncode} before: {what}\n{self.screen()[-2000:]}")
            if time.monotonic() > deadline:
                raise NotReached(f"not within {timeout:g} s: {what}\n{self.screen()[-2000:]}")
            time.sleep(POLL_S)
        return result

    def wait_episodes(self, count: int = 6) -> None:
        """Until so many training episodes have ended: the middle of a rollout."""
        self.until(lambda: len(self.rows()) >= count, f"{count} episodes")

    def wait_update(self) -> None:
        """Until the phase is UPDATE."""
        self.until(lambda: self.phase() == "UPDATE", "phase UPDATE")

    def wait_checkpoint(self) -> None:
        """Until there is a whole checkpoint."""
        self.until((self.folder / "checkpoints" / "last").exists, "a checkpoint")

    def wait_text(self, words: str) -> None:
        self.until(lambda: words in self.screen(), f"{words!r} on the screen")

    def find(self, role: str) -> psutil.Process:
        """A process by role; waits until there is one."""
        return self.until(lambda: self.family.role(role), f"a process: {role}")[0]

    # ---- breaking it

    def now(self) -> None:
        """The fault happens now: its time runs from here."""
        self.fault_at = time.monotonic()

    def hit(self, role: str, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the process of ``role`` (``launcher``: that)."""
        target = self.launcher if role == "launcher" else self.find(role)
        self.now()
        target.send_signal(number)

    def pause(self, role: str, seconds: float) -> None:
        """Stops the process of ``role`` for a while."""
        target = self.launcher if role == "launcher" else self.find(role)
        self.now()
        target.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        target.send_signal(signal.SIGCONT)

    # ---- the end

    def until_ended(self, timeout: float) -> float:
        """Waits for the launcher's end, at most ``timeout`` s; seconds since the start."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return time.monotonic() - self.started

    def facts(self, within: float, settle: float = SETTLE_S) -> Facts:
        """Waits for the end, at most until ``within`` seconds after the fault, and some for what is slow to go.

        Args:
            settle: seconds that processes and files may outlive the launcher.
        """
        begun = self.fault_at or self.started
        over, ended_at = begun + within, None
        while True:
            ended = self.process.poll() is not None
            ended_at = ended_at or (time.monotonic() if ended else None)
            left = self._left() if ended else []
            if (ended and not left) or time.monotonic() > (ended_at + settle if ended_at else over):
                break
            time.sleep(POLL_S)
        seconds = time.monotonic() - begun
        if ended_at and self._left():
            seconds = ended_at - begun  # what is left counts as that, not as time
        rows = self.rows()
        alive = self.family.alive() if ended_at else []
        return Facts(
            self.process.poll(),
            round(seconds, 1),
            self.screen(),
            rows,
            self.expected,
            self.total,
            processes=[_line(process) for process in alive],
            shm=self.shm() if ended_at else [],
            sessions=[folder.name for folder in self.sessions()] if ended_at else [],
            notes=self.notes,
        )

    def _left(self) -> list:
        return [*self.family.alive(), *self.shm(), *self.sessions()]

    def shm(self) -> list[str]:
        """Its names in /dev/shm."""
        return sorted(name for name in os.listdir("/dev/shm") if self.id in name)

    def sessions(self) -> list[Path]:
        """Ray's session folders that its drivers made (the driver's number is their last part)."""
        root, drivers = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray", self.family.drivers()
        found = []
        for folder in root.glob("session_2*") if root.is_dir() else ():
            number = folder.name.rpartition("_")[2]
            if number.isdigit() and int(number) in drivers and folder.stat().st_mtime > self._started_wall - 1:
                found.append(folder)
        return found

    def close(self) -> list[Path]:
        """Ends what is left, by force; returns its Ray folders, which are the caller's to remove."""
        self.family.end()
        self.process.wait(10)
        sessions = self.sessions()
        self.family.close()
        clean_run(self.id)
        return sessions


def _line(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {(' '.join(process.cmdline()) or process.name())[:60]} ({process.status()})"
    except psutil.Error:
        return f"{process.pid} (ending)"
