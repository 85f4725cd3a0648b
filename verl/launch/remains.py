"""What a run leaves when its trainer was killed: processes, shared memory, Ray's session folder. Finds it, ends it.

Only what is provably the run's: processes with a mark that its trainer made up in their environment, or with a file of
its Ray's session open; files in /dev/shm that carry its id and whose locks nobody holds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.names import entries

MARK = "VERL_RUN_MARK"  # in the environment of everything that the trainer starts on its machine
ENDINGS_S = 3.0  # from SIGTERM to SIGKILL
SESSION_TRIES = 5
SESSION_PAUSE_S = 0.2


def marked(mark: str, session: Path | None) -> list[psutil.Process]:
    """Living processes of this user with the mark in their environment, or with a file of Ray's session open."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == mark or _uses(process, session):
                found.append(process)
        except (psutil.Error, OSError):  # somebody else's, or just gone
            continue
    return found


def _uses(process: psutil.Process, session: Path | None) -> bool:
    if session is None:
        return False
    return any(os.readlink(link).startswith(f"{session}/") for link in Path(f"/proc/{process.pid}/fd").iterdir())


def end(processes: Sequence[psutil.Process], grace_s: float = ENDINGS_S) -> list[psutil.Process]:
    """SIGTERM, then SIGKILL; those that are still there. Takes ``2 * grace_s`` seconds at most."""
    for process in processes:
        _send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        _send(process, signal.SIGKILL)
    return list(psutil.wait_procs(alive, timeout=grace_s)[1])


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def clean_shared_memory(run_id: str) -> list[str]:
    """Removes what is left of the run, and of its nodes' own runs where several Ray nodes are on this machine."""
    names = {entry.run_id for entry in entries() if re.fullmatch(re.escape(run_id) + r"-n\d+", entry.run_id)}
    return [file for name in (run_id, *sorted(names)) for file in clean_run(name)]


def remove_session(session: Path, trainer: int, keep_logs: Path | None = None) -> bool:
    """Removes the folder of a Ray that process ``trainer`` started; whether it is gone.

    Args:
        keep_logs: copies Ray's own logs there first; for a run that failed, and whose folder is still there.
    """
    if not re.fullmatch(rf"session_[\d_-]+_{trainer}", session.name):
        return False
    if keep_logs is not None and keep_logs.parent.is_dir() and (session / "logs").is_dir():
        with contextlib.suppress(OSError, shutil.Error):  # a full disk, say
            shutil.copytree(session / "logs", keep_logs, dirs_exist_ok=True)
    for _ in range(SESSION_TRIES):  # a process of it that is just ending may still write
        shutil.rmtree(session, ignore_errors=True)
        if not session.exists():
            break
        time.sleep(SESSION_PAUSE_S)
    latest = session.parent / "session_latest"
    if latest.is_symlink() and os.readlink(latest) in (str(session), session.name):
        latest.unlink(missing_ok=True)
    return not session.exists()
