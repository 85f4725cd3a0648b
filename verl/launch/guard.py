"""Runs the trainer and leaves nothing behind: no process, no segment, no semaphore, however it ends.

guard (this process; the subreaper; holds the run's id until all is cleaned up)
  +- main_ppo, in a session of its own: Ctrl-C reaches only the guard, which asks it to stop in order
       +- Ray's daemons, workers, environment processes, sidecar: whoever loses its parent comes to the guard
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil

from verl.launch import interrupt, remains, words
from verl.launch.claim import IdClaim
from verl.launch.going_on import how_to_go_on

logger = logging.getLogger(__name__)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 20.0  # for an end in order; before it the trainer may take the time for a checkpoint that it has told of
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM)


def run_guarded(command: list[str], claim: IdClaim) -> int:
    """Runs the trainer to its end; its exit code, 130 after Ctrl-C, 128 + n when signal n killed it.

    Args:
        command: starts :mod:`verl.trainer.main_ppo`, for the run that ``claim`` is of.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    read, write = os.pipe()
    stop = _Stop(words.Ear(read))
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    process = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=_in_trainer,
        pass_fds=(write,),
        env={**os.environ, words.VARIABLE: str(write)},
    )
    os.close(write)
    stop.watch(process)
    code = process.wait()
    # Signals stay held from here to the end: another Ctrl-C would otherwise stop the cleaning, not the run.
    stop.cleaning = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    claim.ending()
    told = stop.ear.heard()
    os.close(read)
    try:
        code = _last_words(code, told, process.pid, stop.asked > 0)
    finally:
        _clean(claim.run_id, told, process.pid, code)
    return code


def _in_trainer() -> None:
    """In the new process: a guard that is killed takes it along; it gets signals once it has its handlers."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.SIGNALS)


class _Stop:
    """A signal asks the trainer to stop; Ctrl-C after it, or no end in time, kills it.

    Schedulers send SIGTERM more than once: the second is no impatience.
    """

    def __init__(self, ear: words.Ear) -> None:
        self.ear = ear
        self.asked, self.cleaning = 0, False
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self.asked:
            process.send_signal(signal.SIGINT)

    def __call__(self, number: int, _: object) -> None:
        self.asked += 1
        if self.cleaning:
            _tell("\ncleaning up, a few seconds ...\n")
        elif self._process is None:
            return
        elif self.asked == 1:
            _tell("\nstopping (Ctrl-C again: at once) ...\n")
            self._process.send_signal(signal.SIGINT)
            patience = self.ear.heard().get(words.PATIENCE, {}).get("seconds", 0.0)
            signal.setitimer(signal.ITIMER_REAL, patience + GRACE_S)
        elif number in (signal.SIGINT, signal.SIGALRM):
            self._process.kill()


def _last_words(code: int, told: dict[str, Any], trainer: int, asked: bool) -> int:
    """The exit code to give; tells the user, and the log, of an end that the trainer did not tell of itself."""
    if code >= 0 and ("end" in told or asked):
        return code
    if code < 0:
        reason = f"the training was killed by {signal.Signals(-code).name}"
        code = 128 - code
    else:
        reason, code = f"the training ended without a word, with exit code {code}", code or 1
        if line := _line_of_ray(told, trainer):
            reason += f"; Ray's last line: {line}"
    _tell(f"error: {reason}\n")
    if "folder" in told:
        log = Path(told["folder"]["path"], "logs", "driver.log")
        when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        with contextlib.suppress(OSError), open(log, "a") as lines:
            lines.write(f"{when} ERROR {__name__}: {reason}\n")
        _tell(f"  the whole story: {log.parent}\n  {how_to_go_on(log.parents[1])}\n")
    return code


def _line_of_ray(told: dict[str, Any], trainer: int) -> str | None:
    """The last line that Ray's part of the trainer wrote to a log of its own."""
    logs = Path(told["ray"]["session"], "logs") if "ray" in told else Path("/nowhere")
    for file in logs.glob(f"python-core-driver-*_{trainer}.log"):
        with contextlib.suppress(OSError):
            lines = [line for line in file.read_text(errors="replace").splitlines() if line.startswith("[")]
            return lines[-1].strip()[:500] if lines else None
    return None


def _clean(run_id: str, told: dict[str, Any], trainer: int, code: int) -> None:
    left = remains.end(psutil.Process().children(recursive=True))
    left += remains.end(psutil.Process().children(recursive=True))  # orphans that came meanwhile
    removed = remains.clean_shared_memory(run_id)
    if "ray" in told:
        failed = code not in (0, 2, 130) and "folder" in told
        keep = Path(told["folder"]["path"], "logs", "ray") if failed else None
        remains.remove_session(Path(told["ray"]["session"]), trainer, keep)
    if removed or left:
        logger.info("removed %s; still alive: %s", ", ".join(removed) or "nothing", left or "nothing")


def _tell(text: str) -> None:
    """On the screen, if somebody still reads it."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
