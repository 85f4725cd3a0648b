"""Plays episodes in an environment's process: steps, draws what somebody needs, asks, and stops at the earliest done.

training     the critic's done ends the episode; the simulator's success is written down for the audit
evaluation   the simulator's success ends it; the critic may be asked beside it and decides nothing
without a critic the simulator's success ends and pays training, too (the upper line of a study)

With two links to the critic the next episode is played while the last one's verdicts are on their way:

    link a   play 1 ......... | await | play 3 ...
    link b                    play 2 ......... | await |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np

from verl.critic_config import CriticConfig
from verl.envs.base import Environment
from verl.envs.checks import checked_proprio, checked_success
from verl.envs.episode_scoring import Critic, EpisodeScoring, Played
from verl.envs.frames import PlainFrames
from verl.envs.messages import Act, Look, PlayedOut
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest

PATIENCE_S = 0.005  # between looks at the lane while an action is awaited and verdicts are in flight
DROP_PAUSE_S, LONGEST_DROP_PAUSE_S = 0.5, 8.0  # after a dropped episode, doubled with each further one


class Channel(Protocol):
    """The process's line to its pool."""

    def send(self, message: object) -> None: ...

    def receive(self, timeout: float | None) -> Any | None: ...

    def alive(self) -> None: ...


class _TooSlow(Exception):
    """The simulator's own work on an episode took too long."""


class EpisodeRunner:
    """One episode at a time, and the verdicts of the one before; see the module's head."""

    def __init__(
        self,
        env: Environment,
        channel: Channel,
        plain: PlainFrames,
        links: Sequence[Critic],
        config: CriticConfig | None,
        simulator_limit_s: float | None = None,
    ) -> None:
        """
        Args:
            simulator_limit_s: an episode for which the simulator itself works longer is given up; waiting for the
                policy or the critic is not its fault.
            plain: frames that the critic never sees: of other cameras than the first, and of episodes without it.
            links: to the critic, none without one. At most one episode less than there are is awaited while
                another is played, so one is always free.
        """
        self.env, self.channel, self.plain, self.config = env, channel, plain, config
        self.simulator_limit_s = simulator_limit_s
        self._links = list(links)
        self._awaited: list[EpisodeScoring] = []  # in the order in which they were played
        self._dropped = 0  # episodes one after the other
        self.first_camera = env.cameras[0].name
        self.all_cameras = [camera.name for camera in env.cameras]

    @property
    def awaiting(self) -> bool:
        """Whether an episode that has been played waits for its verdicts."""
        return bool(self._awaited)

    def run(self, request: EpisodeRequest) -> None:
        """Plays the episode, and sends its end, now or by a later :meth:`settle`.

        Raises:
            InvalidVerdictError: an answer without a meaning, and ``critic.invalid`` is ``stop``.
            SidecarLostError: training cannot go on without the critic.
        """
        self._pause()
        self._begin(request)
        try:
            self._play()
            told, chunk = self.env.instruction, self.chunk_length
            self.scoring.played(Played(self.step, chunk, self.success_step, told, self.timings, self._view()))
        except _TooSlow as error:
            self.scoring.close()
            self.channel.send(EpisodeLost(request, str(error)))
            return
        except BaseException:
            self.scoring.close()
            raise
        self._awaited.append(self.scoring)
        self.settle()
        while len(self._awaited) > max(0, len(self._links) - 1):
            self._finish(self._awaited[0], self._awaited[0].wait)
        if self.scoring in self._awaited:
            self.channel.send(PlayedOut(request.episode))

    def settle(self) -> None:
        """Sends the ends of the episodes whose verdicts have come. Never waits. Raises what :meth:`run` does."""
        for scoring in list(self._awaited):
            self._finish(scoring, scoring.poll)

    def _finish(self, scoring: EpisodeScoring, result: Callable[[], EpisodeEnd | EpisodeLost | None]) -> None:
        kept = False
        try:
            end = result()
            kept = end is None
            if end is not None:
                self._dropped = self._dropped + 1 if isinstance(end, EpisodeLost) and end.dropped else 0
                self.channel.send(end)
        finally:
            if not kept:
                self._awaited.remove(scoring)
                scoring.close()

    def _pause(self) -> None:
        """A dropped episode ends early: a critic that is unreadable for seconds must not eat the episodes of hours."""
        pause = min(LONGEST_DROP_PAUSE_S, DROP_PAUSE_S * 2.0 ** (self._dropped - 1)) if self._dropped else 0.0
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, DROP_PAUSE_S))
            self.settle()
            self.channel.alive()

    def _begin(self, request: EpisodeRequest) -> None:
        config = self.config
        self.request, self.step, self.chunk, self.chunk_length = request, 0, 0, 1
        self.success_step: int | None = None
        stages = ("reset", "physics", "render", "verdict_wait", "policy_wait", "critic_wait")
        self.timings = dict.fromkeys(stages, 0.0)
        self.decided = request.training and config is not None and config.enable
        audited = not request.training and config is not None and config.audit_val
        self.critic: Critic | None = None
        if self._links and (self.decided or audited):
            taken = [scoring.critic for scoring in self._awaited]
            self.critic = next(link for link in self._links if link not in taken)
        self.scoring = EpisodeScoring(request, self.critic, config, self.decided)
        with self._timed("reset"):
            self.env.reset(request.seed, request.task, request.training)
        self.scoring.begin(self.env.instruction)
        if self.critic is not None:
            self.critic.begin(request.episode, self.env.instruction)

    def _play(self) -> None:
        self._draw(0, self.all_cameras)
        self._look()
        while not self._over() and (actions := self._next_actions()) is not None:
            self.chunk_length = len(actions)
            for i, action in enumerate(actions):
                self._step(action, chunk_end=i == len(actions) - 1)
                if self._over():
                    break
            else:
                self.chunk += 1
                self._look()

    def _step(self, action: np.ndarray, chunk_end: bool) -> None:
        with self._timed("physics"):
            success = checked_success(self.env, self.env.step(action))
        self.step += 1
        if success and self.success_step is None:
            self.success_step = self.step
        last = self.step >= self.env.max_steps or (not self.decided and success)
        asks = self.critic is not None and (chunk_end or last or self._every == "step")
        looks = chunk_end and not last
        if looks or asks or self.request.record or self._value_frame(last):
            self._draw(self.step, self.all_cameras if looks else [self.first_camera])
        if asks:
            self.scoring.ask(self.step)
        self.settle()
        self.channel.alive()
        self._check_time()

    def _check_time(self) -> None:
        spent = sum(self.timings[stage] for stage in ("reset", "physics", "render"))
        if self.simulator_limit_s is not None and spent > self.simulator_limit_s:
            raise _TooSlow(f"the simulator worked over {self.simulator_limit_s:g} s on it")

    @property
    def _every(self) -> str:
        return self.config.every if self.config else "step"

    def _value_frame(self, last: bool) -> bool:
        """Whether the critic's value list may be asked over this frame."""
        rewards = self.scoring.rewards
        return self.decided and rewards.reward != "done" and (last or self.step % rewards.value_stride == 0)

    def _over(self) -> bool:
        """Whether no further step is taken. Verdicts may still be in flight."""
        if self.step >= self.env.max_steps:
            return True
        return self.scoring.over if self.decided else self.success_step is not None

    def _draw(self, step: int, cameras: list[str]) -> None:
        with self._timed("render"):
            self.slot = step
            for camera in cameras:
                if self.critic is not None and camera == self.first_camera:
                    blocked = self.critic.blocked_s
                    self.slot = self.critic.draw(self.env, step)
                    self._not_the_simulators(self.critic.blocked_s - blocked)
                else:
                    self.env.render(camera, self.plain.raw(step, camera))

    def _not_the_simulators(self, seconds: float) -> None:
        """Of a frame's time: waiting until the critic had room for it."""
        self.timings["render"] -= seconds
        self.timings["critic_wait"] += seconds

    def _look(self) -> None:
        link = None if self.critic is None else self._links.index(self.critic)
        proprio = checked_proprio(self.env, self.request.task, self.request.seed, self.step)
        self.channel.send(
            Look(self.request.episode, self.chunk, self.step, link, self.slot, proprio, self.env.instruction)
        )

    def _next_actions(self) -> np.ndarray | None:
        """The policy's next chunk, or None when the critic ended the episode meanwhile."""
        with self._timed("policy_wait"):
            while True:
                pending = self.scoring.pending
                message = self.channel.receive(PATIENCE_S if pending or self._awaited else None)
                if isinstance(message, Act) and message.episode == self.request.episode:
                    return message.actions
                self.settle()
                if pending:
                    self.scoring.take()
                    if self._over():
                        return None

    def _view(self) -> Callable[[int], np.ndarray]:
        """Recorded frames of the first camera by step: upright, no copy."""
        if self.critic is not None:
            return self.critic.view
        return partial(self.plain.view, camera=self.first_camera)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] += time.perf_counter() - started
