"""What a fault is given: it starts runs, and ends and removes all that is left of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.fake_openai import FakeServer
from tests.faults.judge import Facts, judge
from tests.faults.promises import EndsWithin, Exact, Promise
from tests.faults.run import SETTLE_S, Options, Run

CLONE_NEWNS = 0x00020000
MORE_S = 30.0  # a run is watched for so long beyond what was promised, to say by how much it missed
CREATED_S = 30.0
RESUMED_S = 300.0  # with its start


class Skipped(Exception):
    """This machine does not allow the fault; the text says what it lacks."""


class Lab:
    """One fault's place: ``folder`` is its own. Use as a context manager."""

    def __init__(
        self, name: str, promise: Promise, folder: Path, expected: dict[int, dict[str, Any]], subreaper: bool = True
    ) -> None:
        self.name, self.promise, self.folder = name, promise, folder
        self.expected, self.subreaper = expected, subreaper
        self.runs = folder / "runs"
        self.runs.mkdir(parents=True)
        self.started: list[Run] = []
        self.problems: list[str] = []  # of runs beside the one that the promise is about
        self._sessions: list[Path] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.started:
            self.close(run)
        for session in self._sessions:
            shutil.rmtree(session, ignore_errors=True)
        self._stack.close()

    # ---- runs

    def start(self, *arguments: str, **options: Any) -> Run:
        """A run with ``arguments`` over the common ones. ``options``: fields of :class:`tests.faults.run.Options`."""
        run = Run(self.name, arguments, self.runs, self.expected, self.subreaper, Options(**options))
        self.started.append(run)
        return run

    def facts(self, run: Run) -> Facts:
        """Waits for what the promise says, and somewhat longer."""
        nobody = isinstance(self.promise, EndsWithin) and self.promise.nobody_left
        return run.facts(self.promise.within + MORE_S, self.promise.within if nobody else SETTLE_S)

    def also(self, promise: Promise, facts: Facts, who: str) -> None:
        """Judges a run beside the one that the fault's promise is about."""
        self.problems += [f"{who}: {problem}" for problem in judge(promise, facts)]

    def close(self, run: Run) -> None:
        """Ends what is left of a run, by force."""
        self._sessions += run.close()

    def resumed_is_exact(self, broken: Run) -> None:
        """Goes on with a run that has ended, and judges that."""
        self.close(broken)
        run = self.start(*broken.arguments, "trainer.resume_mode=auto", run_id=broken.id, total=broken.total)
        promise = Exact(within=RESUMED_S)
        self.also(promise, run.facts(promise.within + MORE_S), "resumed")

    # ---- what a fault may need

    def directory(self, name: str) -> Path:
        """A folder of its own."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def server(self) -> FakeServer:
        """A remote critic that can misbehave."""
        return self._stack.enter_context(FakeServer())

    def mount(self, where: Path, size: str) -> None:
        """A file system of ``size`` (``3m``) in memory at ``where``, for this process and its children alone.

        Raises:
            Skipped: this machine does not allow it.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) != 0:
            raise Skipped(f"no mount namespace of its own ({os.strerror(ctypes.get_errno())})")
        for command in (
            ["mount", "--make-rprivate", "/"],
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(where)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=CREATED_S)
            if done.returncode != 0:
                raise Skipped(f"{' '.join(command)}: {done.stderr.strip()}")


def watch(run: Run, seconds: float, every: float = 0.25) -> Iterator[float]:
    """Yields the time that has passed, until ``seconds`` are over or the run has ended."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds and run.process.poll() is None:
        yield passed
        time.sleep(every)
