"""Which initial state is rolled out next: pure logic, the same for the same seed, resumable.

Training states count up from a shuffled cursor; evaluation takes fixed ones that training never uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verl.config import DataConfig
from verl.envs.pool import EpisodeRequest

EVALUATION_EPISODES = 1 << 40  # numbers of evaluation episodes start here: they never meet training ones


@dataclass(slots=True)
class Schedule:
    """Hands out groups of requests. ``state()`` and ``restore()`` for checkpoints."""

    data: DataConfig
    tasks: int
    next_group: int = 0
    next_episode: int = 0
    evaluations: int = 0

    def group(self, record: int = 0) -> list[EpisodeRequest]:
        """``n_samples`` rollouts of the next initial state; the first ``record`` keep their frames."""
        number = self.next_group
        self.next_group += 1
        task, seed = self._state_of(number)
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

    def _state_of(self, group: int) -> tuple[int, int]:
        """Task and initial state of a group: every task once before any comes again, in shuffled order."""
        block, position = divmod(group, self.tasks)
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

    def state(self) -> dict[str, int]:
        return {
            "next_group": self.next_group,
            "next_episode": self.next_episode,
            "evaluations": self.evaluations,
        }

    def restore(self, state: dict[str, int]) -> None:
        self.next_group, self.next_episode = state["next_group"], state["next_episode"]
        self.evaluations = state["evaluations"]
