"""What the critic says of one episode: from its first question to the score.

    ask, poll (while it is played) -> played -> poll ... | wait -> EpisodeEnd or EpisodeLost
                                         |
                                         +--- at max_steps the value list is asked beside the last done: should that say
                                              done after all, the list was asked in vain

training     the critic's done or value scores the episode; the simulator's success is written down for the audit
evaluation   the simulator's success scores it; verdicts beside it are an audit and decide nothing
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from shm_bridge import Verdict
from shm_bridge.rules import DoneRules, Outcome, RewardRules, Termination, score_episode
from verl.critic_config import CriticConfig
from verl.envs.base import Environment
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.errors import InvalidVerdictError, SidecarLostError

logger = logging.getLogger(__name__)


class Values(NamedTuple):
    """A value list: float32 percent, one for each frame after a step in ``steps``; None when it has no meaning.

    ``holes``: pairs that could not be read, over which the list holds its last value.
    """

    values: np.ndarray | None
    steps: list[int]
    holes: int = 0


class Critic(Protocol):
    """What is needed of :class:`verl.envs.critic_link.CriticLink`."""

    latencies_us: list[int]
    outages: int
    blocked_s: float

    def begin(self, episode: int, instruction: str) -> None: ...

    def draw(self, env: Environment, step: int) -> int: ...

    def view(self, step: int) -> np.ndarray: ...

    def ask_done(self, step: int) -> None: ...

    def ask_value(self, last: int, stride: int) -> None: ...

    def poll(self) -> list[Verdict]: ...

    def wait(self) -> list[Verdict]: ...

    def value(self, last: int) -> Values | None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Played:
    """An episode as the simulator saw it.

    Attributes:
        view: (H, W, 3) uint8, upright: the first camera's frame after a step.
    """

    steps: int
    chunk_length: int
    success_step: int | None
    instruction: str
    timings: dict[str, float]
    view: Callable[[int], np.ndarray]


class EpisodeScoring:
    """One episode's verdicts, see the module's head.

    Args:
        critic: None without one.
        decides: the critic's word ends and scores the episode.
    """

    def __init__(
        self, request: EpisodeRequest, critic: Critic | None, config: CriticConfig | None, decides: bool
    ) -> None:
        self.request, self.critic, self.config, self.decides = request, critic, config, decides
        self.rewards = config.reward_rules if config else RewardRules()
        self.termination = Termination(config.done_rules if config else DoneRules())
        self._played: Played | None = None
        self._since = 0.0
        self._listed: int | None = None  # the last step of the value list that was asked for last
        self._audit_lost = False

    def begin(self, instruction: str) -> None:
        """The episode's instruction is known, and with it the rules that end it."""
        if self.config:
            self.termination = Termination(self.config.rules_of(instruction))

    @property
    def episode(self) -> int:
        return self.request.episode

    @property
    def over(self) -> bool:
        """Whether the critic has ended the episode."""
        return self.decides and self.termination.outcome is not Outcome.OPEN

    @property
    def pending(self) -> bool:
        """Whether a frame that was asked about has no answer yet."""
        return self.termination.missing > 0

    @property
    def _valuing(self) -> bool:
        """Whether a value list is out."""
        return self._listed is not None and self.critic is not None and self.critic.value(self._listed) is None

    def ask(self, step: int) -> None:
        """Asks for a done about the frame drawn after ``step``, and takes what has come."""
        assert self.critic is not None
        self.termination.asked(step)
        self.critic.ask_done(step)
        self.take()

    def take(self) -> None:
        """Takes the answers that have come. Never waits. Raises what :meth:`poll` does."""
        if self.critic is not None and not self._audit_lost and (self.pending or self._valuing):
            with self._audit_survives():
                self._take(self.critic.poll())

    def played(self, played: Played) -> None:
        """The last step was taken; what is still missing comes by :meth:`poll` or :meth:`wait`."""
        self._played, self._since = played, time.perf_counter()
        if self.decides and not self.over and self.rewards.wants_value(False):
            assert self.critic is not None
            self._ask_value(self.critic, played.steps)

    def poll(self) -> EpisodeEnd | EpisodeLost | None:
        """The result when all verdicts that it needs are there. Never waits.

        Raises:
            InvalidVerdictError: an answer without a meaning, and ``critic.invalid`` is ``stop``.
            SidecarLostError: an answer is overdue, and training cannot go on without it.
        """
        self.take()
        return self._result()

    def wait(self) -> EpisodeEnd | EpisodeLost:
        """The same, waited for."""
        while (end := self.poll()) is None:
            assert self.critic is not None
            with self._audit_survives():
                self._take(self.critic.wait())
        return end

    def close(self) -> None:
        """Gives the episode's frames back."""
        if self.critic is not None:
            self.critic.end()

    @contextmanager
    def _audit_survives(self) -> Iterator[None]:
        try:
            yield
        except SidecarLostError as error:
            if self.decides:
                raise
            self._audit_lost = True
            logger.warning("episode %d is evaluated without an audit: %s", self.episode, error)

    def _result(self) -> EpisodeEnd | EpisodeLost | None:
        assert self._played is not None, "not played yet"
        if self._missing():
            return None
        return self._decided(self._played) if self.decides else self._simulated(self._played)

    def _missing(self) -> bool:
        """Whether an answer is out that matters: in training until the outcome is certain, in an audit all do."""
        if self.critic is None or self._audit_lost:
            return False
        return not self.termination.settled if self.decides else self.pending

    def _take(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            self.termination.answered(verdict.step, verdict)

    def _ask_value(self, critic: Critic, last: int) -> None:
        critic.ask_value(last, self.rewards.value_stride)
        self._listed = last

    def _decided(self, played: Played) -> EpisodeEnd | EpisodeLost | None:
        """Training: the critic's done, or its value; None while that is missing."""
        assert self.critic is not None
        outcome, at = self.termination.outcome, self.termination.step
        if outcome is Outcome.STOP:
            told = f"episode {self.episode}, {played.instruction!r}: the answer about step {at} cannot be read"
            raise InvalidVerdictError(f"{told} (critic.invalid=stop)")
        if outcome is Outcome.DROP:
            return EpisodeLost(self.request, "unreadable verdict", True, self._replies(at or 0))
        done = outcome is Outcome.DONE
        steps = at if done and at else played.steps
        noise = self.config.verdict_noise if self.config else None
        complete = done if noise is None else noise.complete(done, self.episode)
        answer: Values | None = None
        if self.rewards.wants_value(complete):
            answer = self.critic.value(steps)
            if answer is None:
                if not self._valuing:
                    self._ask_value(self.critic, steps)
                return None
        values, scored = (answer.values, answer.steps) if answer else (None, [])
        if answer and values is None and self.termination.rules.invalid == "stop":
            told = f"episode {self.episode}, {played.instruction!r}: the value list cannot be read"
            raise InvalidVerdictError(f"{told} (critic.invalid=stop)")
        if answer and values is None and self.termination.rules.invalid == "drop":
            return EpisodeLost(self.request, "unreadable value list", True, self._replies(steps) + 1)
        score, step_rewards = score_episode(self.rewards, steps, complete, values, scored)
        return self._end(played, steps, complete, score, step_rewards, answer)

    def _replies(self, until: int) -> int:
        """Replies about the frames up to a step: the same number whatever came early or late."""
        return sum(step <= until for step in self.termination.answers)

    def _simulated(self, played: Played) -> EpisodeEnd:
        """Evaluation, and training without a critic: the simulator's success."""
        success = played.success_step is not None
        rewards = np.zeros(played.steps, np.float32)
        rewards[-1] = float(success)
        complete = success and self.request.training
        return self._end(played, played.steps, complete, float(success), rewards, None)

    def _end(
        self,
        played: Played,
        steps: int,
        complete: bool,
        score: float,
        step_rewards: np.ndarray,
        answer: Values | None,
    ) -> EpisodeEnd:
        """``answer``: None where no value list was asked for."""
        success = played.success_step if played.success_step is not None and played.success_step <= steps else None
        asked = [step for step in self.termination.frames if step <= steps]
        answers, values = self.termination.answers, answer.values if answer else None
        probabilities = [answers[s].probability if s in answers and answers[s].valid else math.nan for s in asked]
        waited = {"verdict_wait": time.perf_counter() - self._since if self.critic is not None else 0.0}
        frames = np.stack([played.view(step) for step in range(steps + 1)]) if self.request.record else None
        return EpisodeEnd(
            request=self.request,
            instruction=played.instruction,
            steps=steps,
            chunks=math.ceil(steps / played.chunk_length),
            complete=complete,
            score=score,
            step_rewards=step_rewards,
            env_success=success is not None,
            env_success_step=success,
            asked=np.array(asked, np.int64),
            probabilities=np.array(probabilities, np.float32),
            values=values,
            value_steps=tuple(answer.steps) if answer and values is not None else (),
            invalid=self.termination.invalid(steps) + bool(answer and values is None),
            latencies_us=np.array(self.critic.latencies_us if self.critic else [], np.int64),
            timings={**played.timings, **waited},
            frames=frames,
            value_holes=answer.holes if answer else 0,
            outages=self.critic.outages if self.critic else 0,
        )
