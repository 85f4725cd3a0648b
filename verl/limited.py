"""A command in a session of its own, with a time limit: when it is over, so is all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

KILLED_S = 15.0  # for the system to end what was killed; one that waits for a driver may never end


@dataclass(frozen=True, slots=True)
class Ended:
    """``code``: its exit code, that of a signal below 0; None: it was not done within its limit."""

    code: int | None
    output: str
    errors: str


def run_limited(command: Sequence[str], limit_s: float, environment: Mapping[str, str], grace_s: float = 0.0) -> Ended:
    """Runs a command; whatever ends this (Ctrl-C, too), all of its processes are killed.

    Args:
        environment: variables beside this process's own.
        grace_s: seconds to clean up after SIGTERM, before SIGKILL.
    """
    code = None
    # Files, no pipes: what it leaves running would hold a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process, grace_s)
        return Ended(code, _read(output), _read(errors))


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    try:
        if grace_s and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_S)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
