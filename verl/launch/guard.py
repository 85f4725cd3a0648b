"""Runs a command and leaves nothing behind: no process, no segment, no semaphore, however it ends.

guard (this process; the subreaper)
  +- main_ppo, in a session of its own: Ctrl-C reaches only the guard, which asks it to stop in order
       +- Ray's daemons, workers, environment processes, sidecar: whoever loses its parent comes to the guard
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from shm_bridge.cleaning import clean_run
from shm_bridge.names import entries

logger = logging.getLogger(__name__)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 20.0  # from the first Ctrl-C until everything is killed
ENDINGS_S = 3.0  # from SIGTERM to SIGKILL for what is left


def run_guarded(command: list[str], run_id: str) -> int:
    """Runs ``command`` to its end; its exit code, 130 after Ctrl-C, 128 + n when signal n killed it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_stop_without_guard)
    try:
        with _asked_to_stop(process):
            code = process.wait()
    finally:
        _end_descendants()
        removed = _clean(run_id)
    if removed:
        logger.info("removed %s", ", ".join(removed))
    if code < 0:
        print(f"error: the training was killed by {signal.Signals(-code).name}", file=sys.stderr)  # noqa: T201
        return 128 - code
    return code


def _stop_without_guard() -> None:
    """A guard that is killed takes the training with it, in order."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _asked_to_stop(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-C or SIGTERM: once asks the child to stop; twice, or no answer for ``GRACE_S``, kills it."""
    asked = 0

    def stop(number: int, _: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            os.write(2, b"\nstopping (again to stop at once) ...\n")
            process.send_signal(signal.SIGINT)
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        else:
            process.kill()

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.signal(number, stop) for number in names}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _clean(run_id: str) -> list[str]:
    """Removes what is left of the run, and of its nodes' own runs where several Ray nodes are on this machine."""
    names = {entry.run_id for entry in entries() if re.fullmatch(re.escape(run_id) + r"-n\d+", entry.run_id)}
    return [file for name in (run_id, *sorted(names)) for file in clean_run(name)]


def _end_descendants() -> None:
    """SIGTERM, then SIGKILL, for every process that is still below this one, orphans included."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        _send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(left, timeout=ENDINGS_S)
    alive += psutil.Process().children(recursive=True)
    for process in alive:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=ENDINGS_S)


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
