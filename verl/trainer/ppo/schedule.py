"""Which initial state is rolled out next: pure logic, the same for the same seed, resumable.

Training counts up through its initial states, evaluation takes the same few each time, and the two never meet
(:mod:`verl.envs.seed_split`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verl.config import DataConfig
from verl.envs.seed_split import evaluation_seed, training_seed
from verl.episode import EpisodeRequest

EVALUATION_EPISODES = 1 << 40  # numbers of evaluation episodes start here: they never meet training ones


@dataclass(slots=True)
class Schedule:
    """Hands out groups of requests. ``state()`` and ``restore()`` for checkpoints.

    Attributes:
        states: how many initial states a task has for evaluation, None where each seed is one.
        greedy: evaluation takes the likeliest token: the same state again would be the same episode again.
    """

    data: DataConfig
    tasks: int
    states: int | None = None
    greedy: bool = True
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
        return int(order[position]), training_seed(self.data.seed, block)

    def evaluation(self, record: int = 0) -> list[EpisodeRequest]:
        """The same initial states at every call, spread evenly over the tasks; greedily each of them once."""
        first = EVALUATION_EPISODES + self.evaluations * self.data.val_batch_size
        self.evaluations += 1
        return [
            EpisodeRequest(episode=first + i, group=-1, task=task, seed=seed, training=False, record=i < record)
            for i, (task, seed) in enumerate(self._evaluated())
        ]

    def evaluation_episodes(self) -> int:
        """How many episodes an evaluation has."""
        return len(self._evaluated())

    def evaluation_states(self) -> int:
        """The n of an evaluation: its distinct initial states, a task's apart from another's."""
        return len({(task, seed % self.states if self.states else seed) for task, seed in self._evaluated()})

    def _evaluated(self) -> list[tuple[int, int]]:
        """Task and seed of the episodes of an evaluation."""
        count = self.data.val_batch_size
        if self.states is not None and self.greedy:
            count = min(count, self.tasks * self.states)
        return [(i % self.tasks, evaluation_seed(self.data.val_seed, i // self.tasks)) for i in range(count)]

    def state(self) -> dict[str, int]:
        return {
            "next_group": self.next_group,
            "next_episode": self.next_episode,
            "evaluations": self.evaluations,
        }

    def restore(self, state: dict[str, int]) -> None:
        self.next_group, self.next_episode = state["next_group"], state["next_episode"]
        self.evaluations = state["evaluations"]
