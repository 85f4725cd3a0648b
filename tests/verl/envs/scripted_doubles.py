"""A policy and a critic that answer when they like: doubles for the episode tests."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from shm_bridge import Verdict
from shm_bridge.rules import value_steps
from tests.verl.envs.fake_env import FakeEnv
from verl.envs.episode_scoring import Values
from verl.envs.messages import Act, Look
from verl.episode import EpisodeEnd, EpisodeLost
from verl.errors import SidecarLostError


class ScriptedChannel:
    """A policy that answers after some rounds of patience, now and then with an answer to an older episode."""

    def __init__(self, rng: random.Random, chunk: int) -> None:
        self.rng, self.chunk, self.looks, self.ends, self.told = rng, chunk, [], [], []

    def send(self, message: Any) -> None:
        self.told.append(message)
        if isinstance(message, Look):
            self.looks.append(message)
        elif isinstance(message, EpisodeEnd | EpisodeLost):
            self.ends.append(message)

    def receive(self, timeout: float | None) -> Any | None:
        draw = self.rng.random()
        if timeout is not None and draw < 0.5:
            return None
        if draw < 0.6:
            return Act(-1, np.zeros((self.chunk, 7), np.float32))
        return Act(self.looks[-1].episode, np.zeros((self.chunk, 7), np.float32))

    def alive(self) -> None:
        pass


class ScriptedCritic:
    """Holds each answer back for a while; :meth:`wait` gives at least the earliest."""

    def __init__(self, rng: random.Random, verdicts: dict[int, Verdict], values: np.ndarray | None) -> None:
        self.rng, self.verdicts, self.values = rng, verdicts, values
        self.in_flight: list[int] = []
        self.value_in_flight: tuple[int, int] | None = None
        self.listed: dict[int, Values] = {}
        self.drawn: dict[int, np.ndarray] = {}
        self.asked: list[int] = []
        self.value_questions: list[tuple[int, int]] = []
        self.latencies_us: list[int] = []
        self.began = self.ended = 0
        self.lost = False
        self.outages, self.blocked_s = 0, 0.0

    def begin(self, episode: int, instruction: str) -> None:
        assert self.began == self.ended, "the last episode still has the frames"
        self.listed = {}
        self.began += 1

    def draw(self, env: FakeEnv, step: int) -> int:
        self.drawn[step] = np.zeros(env.cameras[0].shape, np.uint8)
        env.render("agentview", self.drawn[step])
        return len(self.drawn) - 1

    def view(self, step: int) -> np.ndarray:
        return self.drawn[step][::-1]

    def ask_done(self, step: int) -> None:
        assert step in self.drawn, "asked about a frame that nobody drew"
        self.asked.append(step)
        self.in_flight.append(step)

    def poll(self) -> list[Verdict]:
        chosen = [step for step in self.in_flight if self.rng.random() < 0.3]
        self.rng.shuffle(chosen)
        if self.value_in_flight and self.rng.random() < 0.3:
            self._list()
        return [self._answer(step) for step in chosen]

    def wait(self) -> list[Verdict]:
        if self.lost:
            raise SidecarLostError("gone")
        if self.in_flight:
            return [self._answer(min(self.in_flight)), *self.poll()]
        self._list()
        return []

    def _list(self) -> None:
        assert self.value_in_flight is not None, "waited for nothing"
        last, stride = self.value_in_flight
        self.value_in_flight = None
        scored = value_steps(last, stride)
        self.listed[last] = Values(None if self.values is None else self.values[: len(scored)], scored)

    def _answer(self, step: int) -> Verdict:
        self.in_flight.remove(step)
        self.latencies_us.append(100)
        return self.verdicts[step]._replace(step=step)

    def ask_value(self, last: int, stride: int) -> None:
        assert self.value_in_flight is None, "one at a time"
        self.value_questions.append((last, stride))
        assert all(step in self.drawn for step in value_steps(last, stride))
        self.value_in_flight = (last, stride)

    def value(self, last: int) -> Values | None:
        return self.listed.get(last)

    def end(self) -> None:
        self.in_flight.clear()
        self.value_in_flight = None
        self.ended += 1
