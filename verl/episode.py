"""An episode from its request to its record.

    EpisodeRequest -> EnvPool -+-> EpisodeEnd (how it went) -+-> Episode -> metrics, videos, tables
                               |   Decisions (the policy's) -+          -> verl.algorithms -> Samples -> learner
                               +-> EpisodeLost (not counted)

The simulator's success is in ``EpisodeEnd.env_success`` for the audit. ``Samples`` has no field for it: what the
learner gets cannot depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


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
class EpisodeEnd:
    """An episode has ended.

    Attributes:
        steps: environment steps that count (``finish_step``), 1 or more; what was done after them is not credited.
        chunks: chunks of which at least one step counts.
        complete: the critic said done. False in evaluation.
        score: the reward. In evaluation 1.0 for the simulator's success.
        step_rewards: (steps,) float32, sums to ``score``; zero but for the last step except in the per-step modes.
        env_success: the simulator's success within ``steps``. Audit and evaluation only.
        env_success_step: the first step of it, or None.
        asked: (n,) int64, steps at which the critic was asked, up to ``steps``.
        probabilities: (n,) float32 P(done) at those, NaN where the answer had no meaning or never came.
        values: float32 percent, the critic's value list, or None when not asked or without a meaning.
        value_steps: the steps that ``values`` are of.
        value_holes: unreadable pairs of the list, over which it holds its last value.
        invalid: unreadable replies among those that count, the value list's included.
        outages: askings to which no reply of the model came; each was repeated and changed nothing.
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

    def probability_by_step(self) -> np.ndarray:
        """(steps + 1,) float32 P(done), NaN where the critic was not asked or its answer had no meaning."""
        by_step = np.full(self.steps + 1, np.nan, np.float32)
        by_step[self.asked] = self.probabilities
        return by_step


@dataclass(frozen=True, slots=True)
class EpisodeLost:
    """An episode that is not counted.

    Attributes:
        dropped: by the policy for unreadable replies: the same episode would be dropped again. False: its process
            died, hung or was too slow, and another try may do.
        verdicts: replies that it had got.
        traceback: of what the environment raised in it; empty where it raised nothing.
    """

    request: EpisodeRequest
    reason: str
    dropped: bool = False
    verdicts: int = 0
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the policy has seen and chosen, a row a chunk, of the chunks of which at least one step counts.

    Attributes:
        images: (chunks, cameras, H, W, 3) uint8, what it saw at the start of each chunk; none of an evaluation episode,
            from which nobody learns.
        proprio: (chunks, P) float32.
        tokens: (chunks, L) int64 action tokens, L = chunk length * action dimensions.
        log_probs: (chunks, L) float32, of ``tokens`` under the policy that sampled them.
        values: (chunks,) float32 of the value head, or None without one.
    """

    images: np.ndarray
    proprio: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    values: np.ndarray | None = None

    def __len__(self) -> int:
        """How many chunks."""
        return len(self.tokens)


@dataclass(slots=True)
class Episode:
    """The record of an episode that counts: how it went, and what the policy did."""

    end: EpisodeEnd
    decisions: Decisions

    @property
    def request(self) -> EpisodeRequest:
        return self.end.request

    def forget_frames(self) -> None:
        """Frees the recorded frames, which are large."""
        self.end = replace(self.end, frames=None)
