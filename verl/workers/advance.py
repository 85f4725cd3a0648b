"""What a rollout worker reports to the driver."""

from __future__ import annotations

from dataclasses import dataclass, field

from verl.episode import Episode, EpisodeLost


@dataclass(slots=True)
class Advance:
    """What happened in one call of :meth:`verl.workers.rollout.RolloutWorker.advance`.

    Attributes:
        running: episodes that go on.
        environments, environments_ready: processes, and those whose simulator stands.
        environments_replaced: processes that died, hung or were too slow.
        renderer, renderer_warning: what environments are drawn with, and what is wrong with that.
        policy_s, policy_batches, policy_observations: seconds in the policy, its forward passes, and what they decided.
    """

    episodes: list[Episode] = field(default_factory=list)
    lost: list[EpisodeLost] = field(default_factory=list)
    running: int = 0
    environments: int = 0
    environments_ready: int = 0
    environments_replaced: int = 0
    renderer: str | None = None
    renderer_warning: str | None = None
    policy_s: float = 0.0
    policy_batches: int = 0
    policy_observations: int = 0
