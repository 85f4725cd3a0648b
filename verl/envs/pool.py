"""A pool of environment processes: episodes in, observations and finished episodes out.

    submit(request) ... poll() -> Observation -> act(env, actions) ... poll() -> EpisodeEnd
                               -> EpisodeLost: the process died, hung, or was too slow; another one is in its place

A process may play an episode while the one before waits for its verdicts; both are lost with it. Processes are kept
from episode to episode. No call waits longer than it is told to.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from verl.critic_config import CriticConfig
from verl.envs.env_handle import EnvHandle
from verl.envs.factory import describe
from verl.envs.messages import Act, Failed, Look, Observation, PlayedOut, Ready
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.errors import ConfigError, EnvironmentFailedError, InvalidObservationError, VerlError

logger = logging.getLogger(__name__)
START_TIMEOUT_S = 120.0
MAX_START_FAILURES = 3

Event = Observation | EpisodeEnd | EpisodeLost


class EnvPool:
    """See the module's head. Not thread-safe.

    Args:
        env_config: the ``env`` section of the configuration.
        critic: how the critic is asked, of the sidecar ``critic.run_id``; None: nobody asks it.
        size: processes.
        simulator_limit_s: an episode for which the simulator itself works longer is lost; None: no limit. Neither the
            policy's time nor the critic's is counted.
        silence_s: a simulator that does not come back from one step, reset or frame for so long hangs, and its process
            is replaced. A process that waits for the critic says so every second.
        name: prefix of the processes' lanes, unique on the node; by default it holds this process's number.
        card: CUDA's number of the GPU that the processes draw on; None: the first one.

    Attributes:
        renderer, renderer_warning: as the latest process that is ready said, see :class:`~verl.envs.messages.Ready`.
    """

    def __init__(
        self,
        env_config: Mapping[str, Any],
        critic: CriticConfig | None,
        size: int,
        simulator_limit_s: float | None = None,
        silence_s: float = 60.0,
        name: str | None = None,
        card: int | None = None,
    ) -> None:
        if size < 1:
            raise ConfigError(f"envs_per_worker={size!r}: must be 1 or more")
        self.cameras, self.max_steps = describe(env_config)
        self._env_config, self._critic, self._name = dict(env_config), critic, name or f"env-{os.getpid()}"
        self._simulator_limit_s, self._silence_s, self._card = simulator_limit_s, silence_s, card
        self.renderer: str | None = None
        self.renderer_warning: str | None = None
        self._queue: deque[EpisodeRequest] = deque()
        self._started = 0
        self._start_failures = 0
        self._last_error = ""
        self.replaced = 0
        self._handles: list[EnvHandle] = []
        for index in range(size):
            self._handles.append(self._start(index))

    def __enter__(self) -> EnvPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, request: EpisodeRequest) -> None:
        """Queues an episode; it starts when a process is free."""
        self._queue.append(request)
        self._hand_out()

    def act(self, env: int, actions: np.ndarray, episode: int | None = None) -> None:
        """Answers an observation of environment ``env`` with actions (chunk, 7) in [-1, 1].

        An answer to an episode that has ended meanwhile is dropped.
        """
        handle = self._handles[env]
        look = handle.awaiting
        if look is None or (episode is not None and episode != look.episode):
            return
        handle.send(Act(look.episode, np.ascontiguousarray(actions, np.float32)))

    @property
    def ready(self) -> int:
        """Processes whose simulator stands."""
        return sum(handle.ready for handle in self._handles)

    @property
    def running(self) -> int:
        """Episodes in a process or waiting for one."""
        return len(self._queue) + sum(len(handle.requests) for handle in self._handles)

    def poll(self, timeout: float) -> list[Event]:
        """What has happened; waits up to ``timeout`` seconds for something.

        Raises:
            EnvironmentFailedError: processes die again and again before they are ready.
            VerlError: what a process refused to go on with (a wrong key, missing assets, the sidecar lost for good).
        """
        deadline = time.monotonic() + timeout
        while True:
            events = self._sweep()
            self._hand_out()
            left = deadline - time.monotonic()
            if events or left <= 0:
                return events
            wait([handle.connection for handle in self._handles], min(left, 0.5))

    def _sweep(self) -> list[Event]:
        events: list[Event] = []
        for handle in list(self._handles):
            try:
                while (message := handle.receive()) is not None:
                    event = self._take(handle, message)
                    if event is not None:
                        events.append(event)
            except EOFError:
                events += self._replace(handle, f"environment process died ({_ending(handle)})")
                continue
            events += self._check_time(handle)
        return events

    def _take(self, handle: EnvHandle, message: Any) -> Event | None:
        if isinstance(message, Ready):
            handle.rest()
            self._start_failures = 0
            self.renderer, self.renderer_warning = message.renderer, message.renderer_warning
        elif isinstance(message, Look):
            handle.rest()
            handle.awaiting = message
            frames = handle.frames(message)
            return Observation(
                handle.index, message.episode, message.chunk, message.step, frames, message.proprio, message.instruction
            )
        elif isinstance(message, PlayedOut):
            handle.played_out()
        elif isinstance(message, EpisodeEnd | EpisodeLost):
            handle.free(message.request.episode)
            return message
        elif isinstance(message, Failed):
            if isinstance(message.error, VerlError) and not isinstance(message.error, InvalidObservationError):
                raise message.error
            logger.error("environment %d: %s", handle.index, message.error)
            self._last_error = handle.error = str(message.error)
            handle.traceback = message.traceback
        return None  # Alive: that it was heard is enough

    def _check_time(self, handle: EnvHandle) -> list[Event]:
        if not handle.ready:
            if handle.silent > START_TIMEOUT_S:
                return self._replace(handle, f"environment process not ready within {START_TIMEOUT_S:g} s")
        elif handle.requests and handle.silent > self._silence_s:
            return self._replace(handle, f"environment process silent for {self._silence_s:g} s")
        return []

    def _replace(self, handle: EnvHandle, reason: str) -> list[Event]:
        """Ends a process, starts another in its place, gives its episode up."""
        logger.warning("environment %d: %s: replaced", handle.index, reason)
        handle.close(kill=True)
        if not handle.ready:
            self._start_failures += 1
            if self._start_failures >= MAX_START_FAILURES:
                told = f"\n{handle.traceback.rstrip()}" if handle.traceback else ""
                raise EnvironmentFailedError(f"environments do not start: {self._last_error or reason}{told}")
        self.replaced += 1
        self._handles[handle.index] = self._start(handle.index)
        raised_in = handle.request  # the one that was played
        return [
            EpisodeLost(request, reason, traceback=handle.traceback if request is raised_in else "")
            for request in handle.requests
        ]

    def _start(self, index: int) -> EnvHandle:
        self._started += 1
        name = f"{self._name}-{index}.{self._started}"
        limit, cameras, card = self._simulator_limit_s, self.cameras, self._card
        return EnvHandle(index, self._env_config, self._critic, limit, cameras, self.max_steps, name, card)

    def _hand_out(self) -> None:
        for handle in self._handles:
            if self._queue and handle.ready and handle.request is None:
                request = self._queue.popleft()
                handle.begin(request)
                handle.send(request)

    def pids(self) -> list[int]:
        """The process numbers of the environments."""
        return [handle.process.pid for handle in self._handles]

    def close(self) -> None:
        """Ends all processes. Safe to call twice."""
        for handle in self._handles:
            handle.ask_to_end()
        for handle in self._handles:
            handle.close()
        self._handles = []


def _ending(handle: EnvHandle) -> str:
    """How a process ended, for people."""
    try:
        code = handle.process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "its connection broke"
    return f"signal {-code}" if code < 0 else f"exit code {code}" + (f": {handle.error}" if handle.error else "")
