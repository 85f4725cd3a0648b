"""Which initial state is rolled out next: pure logic, the same for the same seed, resumable.

Training states count up from a shuffled cursor; evaluation takes fixed ones that training never uses. A group in the
place of a dropped one may start from a state that taught something before (``data.revisit``): as a policy gets good,
more and more new states are no longer in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verl.config import DataConfig
from verl.envs.pool import EpisodeRequest
from verl.trajectory import Episode

EVALUATION_EPISODES = 1 << 40  # numbers of evaluation episodes start here: they never meet training ones


@dataclass(slots=True)
class Schedule:
    """Hands out groups of requests. ``state()`` and ``restore()`` for checkpoints."""

    data: DataConfig
    tasks: int
    next_group: int = 0
    next_episode: int = 0
    next_state: int = 0
    evaluations: int = 0
    doubtful: list[tuple[float, int, int]] = field(default_factory=list)

    def group(self, record: int = 0, instead: bool = False) -> list[EpisodeRequest]:
        """``n_samples`` rollouts of the next initial state; the first ``record`` keep their frames.

        ``instead``: in the place of a dropped group. With ``data.revisit`` these take the state that was done least
        often among those that :meth:`learnt_from` named, and only without one a new state.
        """
        number = self.next_group
        self.next_group += 1
        if instead and self.data.revisit and self.doubtful:
            _, task, seed = self.doubtful.pop(0)
        else:
            task, seed = self._state_of(self.next_state)
            self.next_state += 1
        requests = [
            EpisodeRequest(
                episode=self.next_episode + i,
                group=number,
                task=task,
                seed=seed,
                training=True,
                record=i < record,
            )
            for i in range(self.data.n_samples)
        ]
        self.next_episode += self.data.n_samples
        return requests

    def learnt_from(self, groups: Sequence[Sequence[Episode]]) -> None:
        """Groups that the filter kept; each state comes back once for each time it is named."""
        self.doubtful += [(float(np.mean([e.complete for e in g])), g[0].task, g[0].seed) for g in groups]
        self.doubtful.sort()

    def _state_of(self, number: int) -> tuple[int, int]:
        """Task and initial state: every task once before any comes again, in shuffled order."""
        block, position = divmod(number, self.tasks)
        order = np.random.default_rng((self.data.seed, block)).permutation(self.tasks)
        return int(order[position]), self.data.seed * 1_000_003 + block

    def evaluation(self, record: int = 0) -> list[EpisodeRequest]:
        """The same initial states at every call, spread evenly over the tasks."""
        count = self.data.val_batch_size
        first = EVALUATION_EPISODES + self.evaluations * count
        self.evaluations += 1
        return [
            EpisodeRequest(
                episode=first + i,
                group=-1,
                task=i % self.tasks,
                seed=self.data.val_seed + i // self.tasks,
                training=False,
                record=i < record,
            )
            for i in range(count)
        ]

    def state(self) -> dict[str, Any]:
        return {
            "next_group": self.next_group,
            "next_episode": self.next_episode,
            "next_state": self.next_state,
            "evaluations": self.evaluations,
            "doubtful": [list(entry) for entry in self.doubtful],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.next_group, self.next_episode = state["next_group"], state["next_episode"]
        self.next_state, self.evaluations = state["next_state"], state["evaluations"]
        self.doubtful = [(share, task, seed) for share, task, seed in state["doubtful"]]
