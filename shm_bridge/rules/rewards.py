"""What an episode is worth: by the critic's done, else by its last value.

    done by the critic   complete, score = done_weight; the value is not asked (but for ``progress``)
    max_steps reached    score = value_weight * last value / 100, the value clipped to 0..100 (``done``: 0)

``progress`` spreads the same score over the steps: each scored frame is paid what the value has gained since the one
before, and a done pays the rest. So the mode changes when an episode is paid, never how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shm_bridge import ConfigError

REWARD_MODES = ("done", "done_value", "progress")


@dataclass(frozen=True, slots=True)
class RewardRules:
    """The reward's mode (``reward``) and weights, see the module's head.

    Raises :class:`shm_bridge.ConfigError` for a value that is not allowed.
    """

    reward: str = "done_value"
    done_weight: float = 1.0
    value_weight: float = 1.0
    value_stride: int = 8

    def __post_init__(self) -> None:
        if self.reward not in REWARD_MODES:
            raise ConfigError(f"reward={self.reward!r}: allowed are {', '.join(REWARD_MODES)}")
        if self.value_stride < 1:
            raise ConfigError(f"value_stride={self.value_stride!r}: must be 1 or more")

    def wants_value(self, complete: bool) -> bool:
        """Whether the value list must be asked for an episode that ended like this."""
        return self.reward == "progress" or (self.reward == "done_value" and not complete)


def value_steps(steps: int, stride: int) -> list[int]:
    """The frames of the value list of an episode of ``steps`` steps: 0, stride, ... and always the last."""
    return [*range(0, steps, stride), steps]


def score_episode(
    rules: RewardRules, steps: int, complete: bool, values: np.ndarray | None, scored: list[int]
) -> tuple[float, np.ndarray]:
    """The score and where it is paid.

    Args:
        steps: environment steps that count, 1 or more.
        complete: the critic said done after the last of them.
        values: float32 percent, one for each frame in ``scored``; None when not asked or without a meaning.
        scored: steps of the frames that ``values`` are of; the last is ``steps``.

    Returns:
        The score and (steps,) float32 rewards that sum to it; index i is paid for step i + 1.
    """
    rewards = np.zeros(steps, np.float32)
    worth = np.zeros(1)
    if values is not None and len(values):
        if len(values) != len(scored):
            raise ValueError(f"{len(values)} values for {len(scored)} frames")
        worth = np.nan_to_num(np.clip(values.astype(np.float64), 0.0, 100.0)) / 100.0 * rules.value_weight
    score = rules.done_weight if complete else float(worth[-1]) if rules.reward != "done" else 0.0
    if rules.reward == "progress":
        for frame, gain in zip(scored[1:], np.diff(worth)):
            rewards[frame - 1] += gain
    rewards[-1] += score - rewards.sum(dtype=np.float64)
    return score, rewards
