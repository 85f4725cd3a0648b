"""Outlives a trainer that is killed, and cleans up after it: ``python -m verl.launch.reaper``, started by the trainer.

    trainer --lines--> pipe --> reaper      session PATH; bye.     The pipe's end without a bye: the trainer was killed

The launcher does the same, but may be killed with the trainer. Ray's processes then notice only where orphans come to
process 1: below another subreaper (``tini -s``, ``systemd --user``, ``slurmstepd``) they look on, and with them the
sidecar. A pipe's end is the kernel's word, whichever process inherits the orphans; a trainer that is only stopped
keeps it open.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

logger = logging.getLogger("verl.launch.reaper")
BYE = b"bye"
LEAVE_S = 5.0


class Reaper:
    """The trainer's handle on it.

    Args:
        mark: is in the environment of all that the trainer starts from now on, under ``remains.MARK``.
        run_ids: whose shared memory is cleaned.
    """

    def __init__(self, mark: str, run_ids: list[str], log: Path) -> None:
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "verl.launch.reaper", mark, *run_ids],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def tell_session(self, session: str) -> None:
        """The folder of the Ray that the trainer has started."""
        self._say(f"session {session}\n".encode())

    def dismiss(self) -> None:
        """The trainer has cleaned up itself."""
        self._say(BYE + b"\n")
        try:
            self._process.communicate(timeout=LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(LEAVE_S)

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            logger.warning("the process that cleans up after a killed trainer is gone")


def main(arguments: list[str]) -> None:
    """``arguments``: the mark, then run ids. Returns when told, or when all is cleaned up."""
    session: Path | None = None
    for line in sys.stdin.buffer:
        word, _, rest = line.strip().partition(b" ")
        if word == BYE:
            return
        if word == b"session":
            session = Path(rest.decode())
    _clean_up(arguments[0], arguments[1:], session)


def _clean_up(mark: str, run_ids: list[str], session: Path | None) -> None:
    from verl.launch import remains  # not needed in the ordinary case, and its imports are most of this process

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logger.error("the trainer is gone without a word: ending what it started")
    left = remains.end(remains.marked(mark, session))
    left = remains.end(remains.marked(mark, session)) or left  # those that were being started
    removed = [file for run_id in run_ids for file in remains.clean_shared_memory(run_id)]
    if session is not None:
        remains.remove_session(session, int(session.name.rsplit("_", 1)[-1]))
    logger.info("removed %s; still alive: %s", ", ".join(removed) or "nothing", left or "nothing")


if __name__ == "__main__":
    main(sys.argv[1:])
