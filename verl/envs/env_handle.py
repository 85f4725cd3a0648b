"""The pool's handle on one environment process: starts it, talks to it, notices that it died or hangs, ends it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from shm_bridge import LaneReader
from verl.critic_config import CriticConfig
from verl.envs.base import Camera
from verl.envs.env_main import Start
from verl.envs.frames import PlainFrames, create_memory
from verl.envs.messages import Close, Look, Ready
from verl.episode import EpisodeRequest

GRACE_S = 2.0  # what a process is given to end by itself

# One thread for a process: the processes are the parallelism. Mesa draws in the calling thread with 0.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}


class EnvHandle:
    """One environment process. All times are of the monotonic clock, in seconds."""

    def __init__(
        self,
        index: int,
        env_config: Mapping[str, Any],
        critic: CriticConfig | None,
        simulator_limit_s: float | None,
        cameras: tuple[Camera, ...],
        max_steps: int,
        name: str,
        card: int | None = None,
    ) -> None:
        self.index, self.name, self.cameras = index, name, cameras
        self._sidecar = critic.run_id if critic is not None else None
        self.ready = False
        self.request: EpisodeRequest | None = None
        self.awaiting: Look | None = None
        self.error = self.traceback = ""  # what it said before it ended
        self.awaited: dict[int, EpisodeRequest] = {}  # played out, their verdicts not there yet
        self._readers: list[LaneReader] = []
        self._has_turn = True  # the process has work to do; else it waits for us
        self.heard = time.monotonic()
        memory = create_memory(cameras, max_steps + 1)
        ours, theirs = socket.socketpair()
        life, self._life_line = os.pipe()
        start = Start(dict(env_config), critic, simulator_limit_s, name, max_steps + 1, memory, life, card)
        self.connection = Connection(ours.detach())
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "verl.envs.env_main", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), life, memory),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **THREADS, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            self.connection.send(start)
            self.plain = PlainFrames(memory, cameras, max_steps + 1, writable=False)
        finally:
            theirs.close()
            os.close(life)
            os.close(memory)

    def send(self, message: object) -> None:
        """Gives the process something to do. A dead one is noticed at the next :meth:`receive`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)
        self.awaiting = None
        self._has_turn, self.heard = True, time.monotonic()

    def receive(self) -> Any | None:
        """The next message that is there, or None.

        Raises:
            EOFError: the process is dead.
        """
        try:
            if not self.connection.poll(0):
                return None
            message = self.connection.recv()
        except (ConnectionResetError, BrokenPipeError) as error:
            raise EOFError from error
        self.heard = time.monotonic()
        if isinstance(message, Ready):
            self.ready = True
            self._readers = [_open_lane(self._sidecar, lane) for lane in message.lanes]
        return message

    def rest(self) -> None:
        """It is our turn: the process may be silent."""
        self._has_turn = False

    def begin(self, request: EpisodeRequest) -> None:
        self.request = request

    def played_out(self) -> None:
        """The running episode needs no further action: another may begin."""
        assert self.request is not None
        self.awaited[self.request.episode] = self.request
        self.request = self.awaiting = None

    def free(self, episode: int) -> None:
        """An episode has ended."""
        if self.awaited.pop(episode, None) is None:
            self.request = self.awaiting = None
        if not self.requests:
            self.rest()

    @property
    def requests(self) -> list[EpisodeRequest]:
        """Of the episodes that it has: played out first, then the running one."""
        return [*self.awaited.values(), *([self.request] if self.request is not None else [])]

    @property
    def silent(self) -> float:
        """Seconds since it was last heard of, 0 when it is not its turn."""
        return time.monotonic() - self.heard if self._has_turn else 0.0

    def frames(self, look: Look) -> dict[str, np.ndarray]:
        """Read-only upright views on what an observation shows, by camera. No copy."""
        views = {camera.name: self.plain.view(look.step, camera.name) for camera in self.cameras}
        if look.lane is not None:
            first = self.cameras[0].name
            views[first] = self._readers[look.lane].view(look.slot, first)
        return views

    def ask_to_end(self) -> None:
        """Tells the process to end, without waiting for it."""
        with contextlib.suppress(OSError, ValueError):
            self.connection.send(Close())

    def close(self, kill: bool = False) -> None:
        """Ends the process, by force if it does not obey, and frees what belongs to it. Safe to call twice."""
        if self._life_line < 0:
            return
        if not kill:
            self.ask_to_end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(GRACE_S * 5)
        os.close(self._life_line)
        self._life_line = -1
        self.connection.close()
        for reader in self._readers:
            reader.close()


def _open_lane(run_id: str | None, lane: str) -> LaneReader:
    """A read-only mapping of the process's lane."""
    if run_id is None:
        raise EOFError("a lane without a sidecar")
    return LaneReader.open(run_id, lane)
