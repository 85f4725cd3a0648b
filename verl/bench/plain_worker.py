"""The plain way's environment process: one environment, two queues, the critic asked over HTTP after every step.

driver --Queue: ("reset", seed) | ("step", actions) | None--> here --Queue: Seen (a pickled frame)--> driver
                                                               +--HTTP, waited for--> critic
"""

from __future__ import annotations

import multiprocessing as mp
import queue
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np

from verl.bench.critics import HttpCritic
from verl.bench.simulators import make_simulator

P = ParamSpec("P")
T = TypeVar("T")
LOOK_S = 2.0  # between looks whether the driver lives


@dataclass(frozen=True, slots=True)
class Rules:
    """How an episode ends and what it is worth, as by :mod:`shm_bridge.rules`."""

    hold: int
    value_stride: int


@dataclass(slots=True)
class Seen:
    """What the driver is told after a reset and after each chunk: pickled, the frame with it."""

    worker: int
    frame: np.ndarray
    proprio: np.ndarray
    instruction: str
    steps: int
    over: bool
    complete: bool = False
    score: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)


class PlainWorker:
    """One episode after the other; see the module's head."""

    def __init__(self, index: int, env: Mapping[str, Any], own: bool, critic: HttpCritic, rules: Rules) -> None:
        self.index, self.critic, self.rules = index, critic, rules
        self.simulator = make_simulator(env, own)
        self.stages: dict[str, float] = defaultdict(float)

    def reset(self, seed: int) -> Seen:
        self.stages = defaultdict(float)
        self.steps = self.held = 0
        self.complete = False
        self._timed("reset", self.simulator.reset, seed)
        self.frames = {0: self._timed("render", self.simulator.frame)}
        return self._seen(over=False)

    def step(self, actions: np.ndarray) -> Seen:
        """A chunk of actions, cut at the critic's done. Waits for the critic's answer after each."""
        for action in actions:
            self._timed("physics", self.simulator.step, action)
            frame = self._timed("render", self.simulator.frame)
            self.steps += 1
            self.frames[self.steps] = frame
            done = self._timed("critic", self.critic.done, frame, self.simulator.instruction, self.steps)
            self.held = self.held + 1 if done else 0
            self.complete = self.held >= self.rules.hold
            if self.complete or self.steps >= self.simulator.max_steps:
                return self._seen(over=True)
        return self._seen(over=False)

    def _seen(self, over: bool) -> Seen:
        score = 0.0
        if over:
            score = 1.0 if self.complete else self._timed("critic", self._value)
        return Seen(
            self.index,
            np.array(self.frames[self.steps]),
            self.simulator.proprio(),
            self.simulator.instruction,
            self.steps,
            over,
            self.complete,
            score,
            dict(self.stages),
        )

    def _value(self) -> float:
        shown = [*range(0, self.steps, self.rules.value_stride), self.steps]
        return self.critic.value([self.frames[step] for step in shown], self.simulator.instruction)

    def _timed(self, stage: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        result = work(*args, **kwargs)
        self.stages[stage] += time.perf_counter() - started
        return result

    def close(self) -> None:
        self.simulator.close()
        self.critic.close()


def serve(
    index: int,
    env: Mapping[str, Any],
    own: bool,
    port: int,
    encoding: str,
    rules: Rules,
    orders: mp.Queue[Any],
    answers: mp.Queue[Any],
) -> None:
    """The process: until None comes. What goes wrong is put as text."""
    try:
        worker = PlainWorker(index, env, own, HttpCritic(port, encoding), rules)
        try:
            answers.put(worker.reset(0))  # it stands
            while (order := _next_order(orders)) is not None:
                kind, content = order
                answers.put(worker.reset(content) if kind == "reset" else worker.step(content))
        finally:
            worker.close()
    except Exception as error:  # whatever it is, the driver must hear of it
        answers.put(f"{type(error).__name__}: {error}")
        raise


def _next_order(orders: mp.Queue[Any]) -> Any:
    """The driver's next word; None when it wants no more, or is dead."""
    driver = mp.parent_process()
    while driver is None or driver.is_alive():
        try:
            return orders.get(timeout=LOOK_S)
        except queue.Empty:
            continue
    return None
