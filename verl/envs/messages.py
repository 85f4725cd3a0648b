"""What the pool is asked for, what it answers, and what goes over the wire to an environment's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verl.critic_noise import VerdictNoise
from verl.errors import ConfigError
from verl.rewards import RewardRules
from verl.termination import DoneRules


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """How environment processes ask the critic.

    Attributes:
        run_id: of the sidecar on this node.
        every: ``step`` or ``chunk``.
        timeout_s: longest time in which the sidecar answers nobody, a restart of it included.
        max_failures: a question that gets no reply so often, while others do, ends the run.
        audit_evaluation: ask in evaluation too; there it decides nothing.
        overlap: play the next episode while the last one's verdicts are on their way; takes a second lane.
        decides_training: False leaves training to the simulator's success and uses the critic for the audit only.
        noise: verdicts made worse on purpose.
    """

    run_id: str
    every: str = "step"
    threshold: float = 0.9
    hold: int = 1
    reward: str = "done_value"
    done_weight: float = 1.0
    value_weight: float = 1.0
    value_stride: int = 8
    invalid: str = "not_done"
    timeout_s: float = 60.0
    max_failures: int = 10
    overlap: bool = True
    audit_evaluation: bool = False
    decides_training: bool = True
    noise: VerdictNoise = field(default_factory=VerdictNoise)

    def __post_init__(self) -> None:
        if self.every not in ("step", "chunk"):
            raise ConfigError(f"critic.every={self.every!r}: allowed are step, chunk")
        if not self.timeout_s > 0:
            raise ConfigError(f"critic.verdict_timeout_s={self.timeout_s!r}: must be over 0 seconds")
        if self.max_failures < 1:
            raise ConfigError(f"critic.max_failures={self.max_failures!r}: must be 1 or more")
        _ = self.done_rules, self.reward_rules

    @property
    def done_rules(self) -> DoneRules:
        return DoneRules(self.threshold, self.hold, self.invalid)

    @property
    def reward_rules(self) -> RewardRules:
        return RewardRules(self.reward, self.done_weight, self.value_weight, self.value_stride)


@dataclass(frozen=True, slots=True)
class EpisodeRequest:
    """An episode to be run. ``seed`` and ``task`` name the initial state; ``record`` keeps the frames."""

    episode: int
    group: int
    task: int
    seed: int
    training: bool
    record: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """An environment waits for the next chunk of actions.

    Attributes:
        step: environment steps taken so far.
        frames: read-only upright views (H, W, 3) uint8 by camera, into the environment's own buffers: good until the
            episode's end has been taken from the pool.
        proprio: (8,) float32.
    """

    env: int
    episode: int
    chunk: int
    step: int
    frames: dict[str, np.ndarray]
    proprio: np.ndarray
    instruction: str


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    """An episode has ended.

    Attributes:
        steps: environment steps that count (``finish_step``), 1 or more.
        chunks: chunks of which at least one step counts.
        complete: the critic said done. False in evaluation.
        score: the reward. In evaluation 1.0 for the simulator's success.
        step_rewards: (steps,) float32, sums to ``score``.
        env_success: the simulator's success within ``steps``. Audit and evaluation only.
        env_success_step: the first step of it, or None.
        asked: (n,) int64, steps at which the critic was asked, up to ``steps``.
        probabilities: (n,) float32 P(done) at those, NaN where the answer had no meaning or never came.
        values: float32 percent, the critic's value list, or None when not asked or without a meaning.
        value_steps: the steps that ``values`` are of.
        value_holes: unreadable pairs of the list, over which it holds its last value.
        invalid: unreadable replies among those that count, the value list's included.
        outages: askings to which no reply of the model came; each was repeated.
        latencies_us: (m,) int64, first asking to reply, of all replies of the episode.
        timings: seconds by stage: reset, physics, render, policy_wait; critic_wait for room in the lane, while the
            episode was played; verdict_wait from the last step to the last verdict, in which the next episode may be
            played.
        frames: (steps + 1, H, W, 3) uint8 of the first camera, upright, when the request said ``record``.
    """

    request: EpisodeRequest
    instruction: str
    steps: int
    chunks: int
    complete: bool
    score: float
    step_rewards: np.ndarray
    env_success: bool
    env_success_step: int | None
    asked: np.ndarray
    probabilities: np.ndarray
    values: np.ndarray | None
    value_steps: tuple[int, ...]
    invalid: int
    latencies_us: np.ndarray
    timings: dict[str, float] = field(default_factory=dict)
    frames: np.ndarray | None = None
    value_holes: int = 0
    outages: int = 0


@dataclass(frozen=True, slots=True)
class EpisodeLost:
    """An episode that will not end.

    Attributes:
        dropped: by the policy for unreadable replies: the same episode would be dropped again. False: its process
            died, hung or was too slow, and another try may do.
        verdicts: replies that it had got.
    """

    request: EpisodeRequest
    reason: str
    dropped: bool = False
    verdicts: int = 0


# --- over the wire: parent to process


@dataclass(frozen=True, slots=True)
class Begin:
    request: EpisodeRequest


@dataclass(frozen=True, slots=True)
class Act:
    """Actions (chunk, 7) float32 for ``episode``."""

    episode: int
    actions: np.ndarray


@dataclass(frozen=True, slots=True)
class Close:
    pass


# --- process to parent


@dataclass(frozen=True, slots=True)
class Ready:
    """The simulator stands. ``lanes``: names of the lanes through which the critic is asked from here."""

    lanes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """An observation: the first camera's frame in slot ``slot`` of lane number ``lane``, or (None) of the plain buffer,
    the others' in slot ``step`` of the plain buffer.
    """

    episode: int
    chunk: int
    step: int
    lane: int | None
    slot: int
    proprio: np.ndarray
    instruction: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Still at it: sent at least every second while the process works or waits for the critic."""


@dataclass(frozen=True, slots=True)
class PlayedOut:
    """The episode's last step was taken; it ends when its verdicts are there. The next one may begin."""

    episode: int


@dataclass(frozen=True, slots=True)
class Ended:
    end: EpisodeEnd


@dataclass(frozen=True, slots=True)
class Dropped:
    """The episode was given up; the process is fine. ``by_verdict``, ``verdicts``: as in :class:`EpisodeLost`."""

    episode: int
    reason: str
    by_verdict: bool = True
    verdicts: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The process cannot go on. ``error`` is an instance of a class of ``verl.errors`` or the text of another."""

    error: Any
