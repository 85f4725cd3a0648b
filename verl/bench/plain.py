"""The plain way, as VLA-RL code has it: a process per environment, queues, whole batches, a reward server.

    driver: policy on ALL environments' frames, finished ones too --Queue--> environment processes
            <--Queue: pickled frames, when the last one has stepped its chunk--

The next batch of episodes starts when the last episode of this one has ended.
"""

from __future__ import annotations

import multiprocessing as mp
import queue
from collections.abc import Sequence
from typing import Any

import numpy as np

from verl.bench.critics import HttpServer
from verl.bench.plain_worker import Rules, Seen, serve
from verl.bench.way import Finished
from verl.errors import EnvironmentFailedError
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.workers.rollout import RolloutOptions

ANSWER_S = 300.0


class PlainWay:
    """See the module's head. The policy and its sampling noise are those of the rollout worker."""

    def __init__(
        self,
        name: str,
        policy: OpenVLAOFTPolicy,
        options: RolloutOptions,
        critic: HttpServer,
        own: bool,
        encoding: str,
    ) -> None:
        """``own``: robosuite's own simulator in the workers, not this project's."""
        self.name, self.policy, self.options, self.critic = name, policy, options, critic
        asked, size = options.pool["critic"], options.pool["size"]
        rules = Rules(asked.hold, asked.value_stride)
        context: Any = mp.get_context("spawn")
        self.answers = context.Queue()
        self.orders = [context.Queue() for _ in range(size)]
        self.workers = [
            context.Process(
                target=serve,
                daemon=True,
                args=(i, options.pool["env_config"], own, critic.port, encoding, rules, orders, self.answers),
            )
            for i, orders in enumerate(self.orders)
        ]
        for worker in self.workers:
            worker.start()

    def wait_ready(self) -> None:
        """Until every environment stands."""
        self._gather(len(self.workers))

    def run(self, seeds: Sequence[int]) -> list[Finished]:
        size = len(self.workers)
        finished = []
        for start in range(0, len(seeds), size):
            finished += self._batch(seeds[start : start + size])
        return finished

    def _batch(self, seeds: Sequence[int]) -> list[Finished]:
        for orders, seed in zip(self.orders, seeds):
            orders.put(("reset", seed))
        seen = self._gather(len(seeds))
        chunk = 0
        while not all(one.over for one in seen.values()):
            everyone = [seen[i] for i in range(len(seeds))]
            noise = [self._noise(seed, chunk) for seed in seeds]
            output = self.policy.predict(
                np.stack([one.frame[None] for one in everyone]),
                [one.instruction for one in everyone],
                np.stack([one.proprio for one in everyone]).astype(np.float32),
                temperature=self.options.temperature,
                uniforms=np.stack(noise),
            )
            active = [i for i, one in seen.items() if not one.over]
            for i in active:
                self.orders[i].put(("step", output.actions[i]))
            seen.update(self._gather(len(active)))
            chunk += 1
        ended = (seen[i] for i in range(len(seeds)))
        return [Finished(seed, one.steps, one.complete, one.score, one.stages) for seed, one in zip(seeds, ended)]

    def _noise(self, seed: int, chunk: int) -> np.ndarray:
        generator = np.random.default_rng((self.options.seed, seed, chunk))
        return generator.random(self.policy.config.action_tokens, dtype=np.float32)

    def _gather(self, count: int) -> dict[int, Seen]:
        """The next ``count`` workers' words, by worker."""
        seen = {}
        for _ in range(count):
            try:
                answer = self.answers.get(timeout=ANSWER_S)
            except queue.Empty:
                raise EnvironmentFailedError(f"an environment said nothing for {ANSWER_S:g} s") from None
            if isinstance(answer, str):
                raise EnvironmentFailedError(f"an environment of {self.name} failed: {answer}")
            seen[answer.worker] = answer
        return seen

    def processes(self) -> dict[str, list[int]]:
        simulators = [worker.pid for worker in self.workers if worker.pid is not None]
        return {"simulators": simulators, "critic": self.critic.processes()}

    def close(self) -> None:
        for orders in self.orders:
            orders.put(None)
        for worker in self.workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()
                worker.join(5)
        for channel in [*self.orders, self.answers]:
            channel.close()
            channel.cancel_join_thread()
