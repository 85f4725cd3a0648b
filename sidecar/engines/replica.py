"""One copy of the model, in a process of its own with a device of its own; here it is an engine as any other.

    slot's thread --batch (parcel)--> pipe and arena --> python -m sidecar.engines.replica_main: the engine on its card
                  <--- answers, or what the engine raised ---

A process of its own: the interpreter's lock of one never holds up another, and a card that fails takes one process with
it. :class:`~sidecar.errors.ReplicaLostError` says that no answer will come of it; a neighbour can be asked.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from evo_vlac.engine import Answer, Query
from sidecar.config import Config
from sidecar.engines.devices import alone
from sidecar.engines.parcel import Arena, pack
from sidecar.errors import PERMANENT, ReplicaError, ReplicaLostError, SidecarError

logger = logging.getLogger(__name__)
_LOOK_S = 0.2
_END_S = 5.0
ANSWER, OFFLOAD, RESTORE = b"A", b"O", b"R"


class Outcome(Enum):
    """How a call ended in the replica's process."""

    OK = 1
    OUT_OF_MEMORY = 2
    ERROR = 3


class Replica:
    """A :class:`~sidecar.engines.base.SidecarEngine`. Calls come from one thread at a time; :meth:`kill` from any."""

    slots = 1
    remote = False

    def __init__(self, index: int, device: str, config: Config) -> None:
        self.index, self.device = index, device
        self.config, self._environment = _of_one(config, device)
        self.name, self.mixes = config.engine, False
        self.up = False  # loaded, has answered a probe, and is not known to have ended
        self.busy_since: float | None = None  # of the call that is under way, on time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._arena: Arena | None = None
        self._memory: Mapping[str, int] = {}

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the process, which loads the model; returns at once."""
        self._let_go()
        self._pipe, theirs = multiprocessing.Pipe()
        self._arena = Arena()
        handed = (theirs.fileno(), self._arena.descriptor)
        command = [sys.executable, "-m", "sidecar.engines.replica_main", str(os.getpid()), *map(str, handed)]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(self.index)], stdin=subprocess.PIPE, pass_fds=handed, env=self._environment
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:  # it died: wait_loaded() tells
            pickle.dump(self.config, stdin)

    def wait_loaded(self, timeout_s: float) -> None:
        """Until it has loaded the model and answered a probe.

        Raises:
            ReplicaLostError: it ended, or took longer.
            SidecarError: it says why it cannot; ``exit_code`` is that of the reason.
        """
        pipe, deadline = self._pipe, time.monotonic() + timeout_s
        assert pipe is not None
        try:
            while not pipe.poll(_LOOK_S):
                if time.monotonic() > deadline:
                    raise self._lost(f"was not ready within {timeout_s:g} s")
            said = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._lost("ended while it loaded") from None
        if "error" in said:
            self._let_go()
            error = SidecarError(f"replica {self.index} on {self.device}: {said['error']}")
            error.exit_code = said["exit_code"]
            raise error
        self.name, self.mixes, self._memory = said["name"], said["mixes"], said["memory"]
        self.up = True

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def ended(self) -> bool:
        """Whether its process is no more; cheap. One that ended while nobody asked it is noticed by this."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL, by any thread. The one that waits for an answer gets ReplicaLostError, even where a driver keeps
        the process from dying."""
        process, pipe = self._process, self._pipe
        if process is not None and process.poll() is None:
            process.kill()
        if pipe is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(pipe.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The end of the pipe tells it to end."""
        self.up = False
        process = self._process
        if self._pipe is not None and self.busy_since is None:
            self._pipe.close()
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_S)
        self._let_go()

    def _let_go(self) -> None:
        """Ends the process, if it is there, and gives back what belonged to it."""
        self.up = False
        self.kill()
        process, pipe, arena = self._process, self._pipe, self._arena
        self._process = self._pipe = self._arena = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its card's driver holds it: it dies when it can
                process.wait(_END_S)
        if pipe is not None:
            pipe.close()
        if arena is not None:
            arena.close()

    def _lost(self, what: str) -> ReplicaLostError:
        process = self._process
        self._let_go()
        code = None if process is None else process.poll()
        how = "" if code is None else f" (killed by signal {-code})" if code < 0 else f" (exit code {code})"
        return ReplicaLostError(f"replica {self.index} on {self.device} {what}{how}")

    # -- an engine ---------------------------------------------------------------------------------------------------

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Raises ReplicaLostError; MemoryError and ReplicaError for what the engine there raised."""
        arena = self._arena
        if arena is None:
            raise self._lost("is not there")
        answers: list[Answer] = self._call(ANSWER + pack(queries, arena))
        return answers

    def offload(self) -> None:
        self._call(OFFLOAD)

    def restore(self) -> None:
        self._call(RESTORE)

    def memory_bytes(self) -> Mapping[str, int]:
        """As it was after the last call."""
        return self._memory if self.up else {}

    def _call(self, message: bytes) -> Any:
        pipe = self._pipe
        if pipe is None:
            raise self._lost("is not there")
        self.busy_since = time.monotonic()
        try:
            pipe.send_bytes(message)
            outcome, result, self._memory = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._lost("ended") from None
        finally:
            self.busy_since = None
        if outcome is Outcome.OUT_OF_MEMORY:
            raise MemoryError(result)
        if outcome is Outcome.ERROR:
            raise ReplicaError(f"replica {self.index}: {result}")
        return result


def _of_one(config: Config, device: str) -> tuple[Config, dict[str, str]]:
    """The configuration and the environment of a replica's process."""
    inside, environment = alone(device, os.environ)
    return replace(config, devices=None, device=inside, nice=0), environment  # niceness is inherited


def is_permanent(error: SidecarError) -> bool:
    """Whether starting again cannot help."""
    return error.exit_code == PERMANENT
