"""Which initial state is rolled out next: pure logic, the same for the same seed, resumable.

Training counts up through its initial states, evaluation takes the same few each time, and the two never meet
(:mod:`verl.envs.seed_split`). Tasks come in turn, or by need (``data.task_sampling``): then what the critic said of a
rollout decides about the next ones, and not who came first within it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verl.algorithms.task_need import success_rate, take_turn, task_shares
from verl.config import DataConfig
from verl.envs.seed_split import evaluation_seed, training_seed
from verl.episode import Episode, EpisodeRequest

EVALUATION_EPISODES = 1 << 40  # numbers of evaluation episodes start here: they never meet training ones


@dataclass(slots=True)
class Schedule:
    """Hands out groups of requests. ``state()`` and ``restore()`` for checkpoints.

    Attributes:
        states: how many initial states a task has for evaluation, None where each seed is one.
        greedy: evaluation takes the likeliest token: the same state again would be the same episode again.
        visits: by task, groups that were by need; the initial states of a task count up with them.
        due, dones: by task, see :mod:`verl.algorithms.task_need`; the latest ``data.need_window`` dones.
    """

    data: DataConfig
    tasks: int
    states: int | None = None
    greedy: bool = True
    next_group: int = 0
    next_episode: int = 0
    evaluations: int = 0
    visits: list[int] = field(init=False)
    due: np.ndarray = field(init=False)
    dones: list[deque[bool]] = field(init=False)

    def __post_init__(self) -> None:
        self.visits = [0] * self.tasks
        self.due = np.zeros(self.tasks)
        self.dones = [deque(maxlen=self.data.need_window) for _ in range(self.tasks)]

    def note(self, episodes: Iterable[Episode]) -> None:
        """A rollout's ``episodes``, by number: the critic's dones say what each task needs."""
        for episode in episodes:
            self.dones[episode.request.task].append(bool(episode.end.complete))

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
        """Task and initial state of a group; in turn every task once before any comes again, in shuffled order."""
        block, position = divmod(group, self.tasks)
        order = np.random.default_rng((self.data.seed, block)).permutation(self.tasks)
        if self.data.task_sampling == "even":
            return int(order[position]), training_seed(self.data.seed, block)
        rates = np.array([success_rate(dones) for dones in self.dones])
        shares = task_shares(rates, self.data.task_sampling, self.data.need_floor)
        task, self.due = take_turn(self.due, shares, order)
        self.visits[task] += 1
        return task, training_seed(self.data.seed, self.visits[task] - 1)

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

    def state(self) -> dict[str, Any]:
        return {
            "next_group": self.next_group,
            "next_episode": self.next_episode,
            "evaluations": self.evaluations,
            "visits": list(self.visits),
            "due": self.due.tolist(),
            "dones": [list(dones) for dones in self.dones],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """A checkpoint of other tasks, or from before tasks came by need, tells of none: the need is counted anew."""
        self.next_group, self.next_episode = state["next_group"], state["next_episode"]
        self.evaluations = state["evaluations"]
        if len(state.get("visits", ())) == self.tasks:
            self.visits, self.due = list(state["visits"]), np.array(state["due"], np.float64)
            self.dones = [deque(latest, maxlen=self.data.need_window) for latest in state["dones"]]
