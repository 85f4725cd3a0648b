"""The process of one environment: simulator, renderer, lane. Started by :class:`verl.envs.env_handle.EnvHandle`.

    pool  --EpisodeRequest, Act, Close-->  socket  -->  EpisodeRunner  --frames, questions-->  lane  -->  sidecar
          <--Ready, Look, Alive, PlayedOut, EpisodeEnd, EpisodeLost--

The process dies with its parent, whatever it is doing: the parent holds the other end of a pipe, and the kernel sends
SIGIO, which kills by default, when that end is closed. (``PR_SET_PDEATHSIG`` would fire when the parent's THREAD ends.)
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pickle
import select
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from shm_bridge import BridgeError
from verl.critic_config import CriticConfig
from verl.envs import egl
from verl.envs.base import Environment
from verl.envs.checks import checked_proprio
from verl.envs.critic_link import CriticLink
from verl.envs.episode_runner import EpisodeRunner
from verl.envs.factory import create_environment
from verl.envs.frames import PlainFrames
from verl.envs.messages import Alive, Close, Failed, Ready
from verl.episode import EpisodeRequest
from verl.errors import CriticBridgeError, VerlError

ALIVE_EVERY_S = 1.0
SETTLE_S = 0.002  # between looks at the lane while there is nothing to play and verdicts are in flight

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """All that a process is told at its start."""

    env_config: dict[str, Any]
    critic: CriticConfig | None
    simulator_limit_s: float | None
    name: str
    slots: int
    memory: int
    life_line: int
    card: int | None = None  # CUDA's number of the one to draw on


class Closed(Exception):
    """The pool wants the process to end, or is gone."""


class SocketChannel:
    """See :class:`verl.envs.episode_runner.Channel`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._last = time.monotonic()

    def send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error
        self._last = time.monotonic()

    def receive(self, timeout: float | None) -> Any | None:
        try:
            if not self.connection.poll(timeout):
                return None
            message = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise Closed from error
        if isinstance(message, Close):
            raise Closed
        return message

    def alive(self) -> None:
        if time.monotonic() - self._last >= ALIVE_EVERY_S:
            self.send(Alive())


def die_with_parent(life_line: int) -> None:
    """Ends this process, by a signal that nobody handles, when the other end of the pipe is closed."""
    fcntl.fcntl(life_line, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life_line, fcntl.F_SETFL, fcntl.fcntl(life_line, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(life_line, select.POLLIN)
    if poller.poll(0):  # closed before we could ask to be told
        sys.exit(1)


def serve(channel: SocketChannel, start: Start) -> None:
    """Builds the simulator, then runs episodes until told to close."""
    egl.take_card(start.card)
    env = create_environment(start.env_config)
    longest = env.max_steps  # of all tasks; a reset makes it the task's
    links: list[CriticLink] = []
    try:
        plain = PlainFrames(start.memory, env.cameras, start.slots, writable=True)
        os.close(start.memory)
        warm_up(env, plain)
        if start.critic is not None:
            names = [start.name, f"{start.name}b"] if start.critic.overlap else [start.name]
            for name in names:
                links.append(CriticLink(start.critic, env.cameras[0], longest, name, channel.alive))
        runner = EpisodeRunner(env, channel, plain, links, start.critic, start.simulator_limit_s)
        drawn = egl.renderer()
        warning = None if drawn is None else egl.software_beside_gpus(drawn)
        channel.send(Ready(tuple(link.lane.name for link in links), drawn, warning))
        while True:
            message = channel.receive(SETTLE_S if runner.awaiting else None)
            if isinstance(message, EpisodeRequest):
                runner.run(message)
            runner.settle()
            channel.alive()
    finally:
        for link in links:
            link.close()
        env.close()


def warm_up(env: Environment, plain: PlainFrames) -> None:
    """Builds the first task's simulator and renderer, so that what is missing is said now and not in an episode."""
    env.reset(0, 0)
    checked_proprio(env, task=0, seed=0, step=0)
    for camera in env.cameras:
        env.render(camera.name, plain.raw(0, camera.name))


def main() -> int:
    """``python -m verl.envs.env_main SOCKET``: the file descriptor of the socket to the pool."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    connection = Connection(int(sys.argv[1]))
    channel = SocketChannel(connection)
    try:
        start = connection.recv()
        die_with_parent(start.life_line)
        serve(channel, start)
    except (Closed, EOFError):
        return 0
    except BridgeError as error:
        with contextlib.suppress(Closed):
            channel.send(Failed(CriticBridgeError(str(error))))
        return 1
    except Exception as error:  # whatever it is, the parent must hear of it
        story = ""
        if not isinstance(error, VerlError):
            logger.exception("environment process failed")
            story = _story()
        with contextlib.suppress(Closed):
            channel.send(Failed(_portable(error), story))
        return 1
    return 0


def _story() -> str:
    """The traceback of what is being handled, without its headings: the line that shows it names the process."""
    return "\n".join(line for line in traceback.format_exc().splitlines() if not line.startswith("Traceback ("))


def _portable(error: Exception) -> Any:
    """The error itself when it is one of ours, its text otherwise: the parent may lack the class."""
    if isinstance(error, VerlError):
        try:
            pickle.loads(pickle.dumps(error))
            return error
        except (pickle.PickleError, TypeError, AttributeError):
            pass
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
