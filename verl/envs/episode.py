"""Runs one episode in an environment's process: steps, draws what somebody needs, asks, and cuts at the earliest done.

training     the critic's done ends the episode; the simulator's success is written down for the audit
evaluation   the simulator's success ends it; the critic may be asked beside it and decides nothing
without a critic the simulator's success ends and pays training, too (the upper line of a study)
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from verl.envs.base import Environment
from verl.envs.frames import PlainFrames
from verl.envs.messages import Act, BridgeConfig, Dropped, EpisodeEnd, EpisodeRequest, Look
from verl.errors import InvalidVerdictError, SidecarLostError
from verl.rewards import RewardRules, score_episode
from verl.termination import DoneRules, FrameVerdict, Outcome, Termination

logger = logging.getLogger(__name__)
PATIENCE_S = 0.005  # between looks at the lane while an action is awaited and verdicts are in flight


class Channel(Protocol):
    """The process's line to its pool."""

    def send(self, message: Any) -> None: ...

    def receive(self, timeout: float | None) -> Any | None: ...

    def alive(self) -> None: ...


class Critic(Protocol):
    """What the runner needs of :class:`verl.envs.critic_link.CriticLink`."""

    latencies_us: list[int]

    @property
    def pending(self) -> bool: ...

    def begin(self, episode: int, instruction: str) -> None: ...

    def draw(self, env: Environment, step: int) -> int: ...

    def view(self, step: int) -> np.ndarray: ...

    def ask_done(self, step: int) -> None: ...

    def poll(self) -> list[tuple[int, FrameVerdict]]: ...

    def wait(self) -> list[tuple[int, FrameVerdict]]: ...

    def ask_value(self, last: int, stride: int) -> tuple[np.ndarray | None, list[int]]: ...

    def end(self) -> None: ...


class EpisodeRunner:
    """One episode at a time, see the module's head."""

    def __init__(
        self,
        env: Environment,
        channel: Channel,
        plain: PlainFrames,
        critic: Callable[[], Critic] | None,
        bridge: BridgeConfig | None,
    ) -> None:
        """
        Args:
            plain: frames that the critic never sees: of other cameras than the first, and of episodes without it.
            critic: gives the link to the critic, None without one. Called when first needed.
        """
        self.env, self.channel, self.plain, self.bridge = env, channel, plain, bridge
        self._connect = critic
        self.first_camera = env.cameras[0].name
        self.all_cameras = [camera.name for camera in env.cameras]

    def run(self, request: EpisodeRequest) -> EpisodeEnd | Dropped:
        """Runs the episode to its end.

        Raises:
            InvalidVerdictError: an answer without a meaning, and ``critic.invalid`` is ``stop``.
            SidecarLostError: training cannot go on without the critic.
        """
        self._begin(request)
        try:
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
            return self._finish()
        finally:
            if self.critic is not None:
                self.critic.end()

    def _begin(self, request: EpisodeRequest) -> None:
        bridge = self.bridge
        self.request, self.step, self.chunk, self.chunk_length = request, 0, 0, 1
        self.success_step: int | None = None
        self.timings = {"reset": 0.0, "physics": 0.0, "render": 0.0, "verdict_wait": 0.0, "policy_wait": 0.0}
        self.decided = request.training and bridge is not None and bridge.decides_training
        audited = not request.training and bridge is not None and bridge.audit_evaluation
        self.critic = self._connect() if self._connect and (self.decided or audited) else None
        self.termination = Termination(bridge.done_rules if bridge else DoneRules())
        with self._timed("reset"):
            self.env.reset(request.seed, request.task)
        if self.critic is not None:
            self.critic.begin(request.episode, self.env.instruction)

    def _step(self, action: np.ndarray, chunk_end: bool) -> None:
        with self._timed("physics"):
            success = self.env.step(action)
        self.step += 1
        if success and self.success_step is None:
            self.success_step = self.step
        last = self.step >= self.env.max_steps or (not self.decided and success)
        asks = self.critic is not None and (chunk_end or last or self.bridge_every == "step")
        looks = chunk_end and not last
        if looks or asks or self.request.record or self._value_frame(last):
            self._draw(self.step, self.all_cameras if looks else [self.first_camera])
        if asks:
            self._ask()
        self.channel.alive()

    @property
    def bridge_every(self) -> str:
        return self.bridge.every if self.bridge else "step"

    @property
    def rewards(self) -> RewardRules:
        return self.bridge.reward_rules if self.bridge else RewardRules()

    def _value_frame(self, last: bool) -> bool:
        """Whether the critic's value list may be asked over this frame."""
        return self.decided and self.rewards.mode != "done" and (last or self.step % self.rewards.value_stride == 0)

    def _over(self) -> bool:
        """Whether no further step is taken. Verdicts may still be in flight."""
        if self.step >= self.env.max_steps:
            return True
        if self.decided:
            return self.termination.outcome is not Outcome.OPEN
        return self.success_step is not None

    def _draw(self, step: int, cameras: list[str]) -> None:
        with self._timed("render"):
            self.slot = step
            for camera in cameras:
                if self.critic is not None and camera == self.first_camera:
                    self.slot = self.critic.draw(self.env, step)
                else:
                    self.env.render(camera, self.plain.raw(step, camera))

    def _look(self) -> None:
        self.channel.send(
            Look(
                self.request.episode, self.chunk, self.step, self.critic is not None, self.slot,
                self.env.proprio(), self.env.instruction,
            )
        )  # fmt: skip

    def _ask(self) -> None:
        assert self.critic is not None
        self.termination.asked(self.step)
        self.critic.ask_done(self.step)
        self._take(self.critic.poll())

    def _take(self, answers: list[tuple[int, FrameVerdict]]) -> None:
        for step, verdict in answers:
            self.termination.answered(step, verdict)

    def _next_actions(self) -> np.ndarray | None:
        """The policy's next chunk, or None when the critic ended the episode meanwhile."""
        with self._timed("policy_wait"):
            while True:
                pending = self.critic is not None and self.critic.pending
                message = self.channel.receive(PATIENCE_S if pending else None)
                if isinstance(message, Act) and message.episode == self.request.episode:
                    return message.actions
                if pending and self.critic is not None:
                    self._take(self.critic.poll())
                    if self._over():
                        return None

    def _finish(self) -> EpisodeEnd | Dropped:
        self._await_verdicts()
        outcome = self.termination.outcome
        if self.decided and outcome is Outcome.STOP:
            step = self.termination.step
            raise InvalidVerdictError(f"the answer about step {step} has no meaning (critic.invalid=stop)")
        if self.decided and outcome is Outcome.DROP:
            return Dropped(self.request.episode, "invalid verdict")
        return self._decided_end() if self.decided else self._simulated_end()

    def _await_verdicts(self) -> None:
        """Waits for those that matter: until the outcome is certain, in an audit for all of them."""
        try:
            with self._timed("verdict_wait"):
                while self.critic is not None and self.critic.pending:
                    if self.decided and self.termination.settled:
                        break
                    self._take(self.critic.wait())
        except SidecarLostError as error:
            if self.decided:
                raise
            logger.warning("episode %d is evaluated without an audit: %s", self.request.episode, error)

    def _decided_end(self) -> EpisodeEnd | Dropped:
        """Training: the critic's done, or its value."""
        assert self.critic is not None
        done = self.termination.outcome is Outcome.DONE
        steps = self.termination.step if done and self.termination.step else self.step
        complete = self.bridge.noise.complete(done, self.request.episode) if self.bridge else done
        rules, values, meaningful = self.rewards, None, True
        scored: list[int] = []
        if rules.wants_value(complete):
            with self._timed("verdict_wait"):
                values, scored = self.critic.ask_value(steps, rules.value_stride)
            meaningful = values is not None
            if not meaningful and self.termination.rules.invalid == "stop":
                raise InvalidVerdictError("the value list has no meaning (critic.invalid=stop)")
            if not meaningful and self.termination.rules.invalid == "drop":
                return Dropped(self.request.episode, "invalid value")
        score, step_rewards = score_episode(rules, steps, complete, values, scored)
        return self._end(steps, complete, score, step_rewards, values, scored, int(not meaningful))

    def _simulated_end(self) -> EpisodeEnd:
        """Evaluation, and training without a critic: the simulator's success."""
        success = self.success_step is not None
        rewards = np.zeros(self.step, np.float32)
        rewards[-1] = float(success)
        return self._end(self.step, success and self.request.training, float(success), rewards, None, [], 0)

    def _end(
        self,
        steps: int,
        complete: bool,
        score: float,
        step_rewards: np.ndarray,
        values: np.ndarray | None,
        scored: list[int],
        invalid_values: int,
    ) -> EpisodeEnd:
        success = self.success_step if self.success_step is not None and self.success_step <= steps else None
        asked = [step for step in self.termination.frames if step <= steps]
        answers = self.termination.answers
        probabilities = [answers[s].probability if s in answers and answers[s].valid else math.nan for s in asked]
        return EpisodeEnd(
            request=self.request,
            instruction=self.env.instruction,
            steps=steps,
            chunks=math.ceil(steps / self.chunk_length),
            complete=complete,
            score=score,
            step_rewards=step_rewards,
            env_success=success is not None,
            env_success_step=success,
            asked=np.array(asked, np.int64),
            probabilities=np.array(probabilities, np.float32),
            values=values,
            value_steps=tuple(scored) if values is not None else (),
            invalid=self.termination.invalid(steps) + invalid_values,
            latencies_us=np.array(self.critic.latencies_us if self.critic else [], np.int64),
            timings=self.timings,
            frames=self._recorded(steps) if self.request.record else None,
        )

    def _recorded(self, steps: int) -> np.ndarray:
        """(steps + 1, H, W, 3) uint8, upright: the one copy that recording costs."""
        if self.critic is not None:
            return np.stack([self.critic.view(step) for step in range(steps + 1)])
        return np.stack([self.plain.view(step, self.first_camera) for step in range(steps + 1)])

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] += time.perf_counter() - started
