"""A critic made worse on purpose, for studies: how good must one be? Off unless asked for.

``noise`` changes an episode's verdict: a done is missed, or an episode that never was done is taken for done at its
end. ``shuffle`` deals the rewards of a rollout out at random: the lower line, what training does without any signal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from verl.episode import Episode
from verl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class VerdictNoise:
    """``missed_done``, ``false_done``: probabilities by episode, drawn from ``seed`` and the episode's number."""

    missed_done: float = 0.0
    false_done: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("missed_done", "false_done"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"critic.noise.{name}={getattr(self, name)!r}: must be from 0 to 1")

    def complete(self, complete: bool, episode: int) -> bool:
        """What the episode's verdict is taken for."""
        wrong = self.missed_done if complete else self.false_done
        return complete != bool(np.random.default_rng((self.seed, episode)).random() < wrong)


def shuffle_rewards(episodes: list[Episode], rng: np.random.Generator) -> list[Episode]:
    """The same episodes, each with ``complete`` and score of a random one of them, paid at its last step."""
    shuffled = []
    for episode, index in zip(episodes, rng.permutation(len(episodes))):
        other = episodes[index].end
        rewards = np.zeros_like(episode.end.step_rewards)
        rewards[-1:] = other.score
        end = replace(episode.end, complete=other.complete, score=other.score, step_rewards=rewards)
        shuffled.append(replace(episode, end=end))
    return shuffled
