"""This project's way: the real rollout worker, its pool, the bridge and the sidecar; Ray alone is left out."""

from __future__ import annotations

from collections.abc import Sequence

from verl.bench.critics import Sidecar
from verl.bench.way import Finished, children
from verl.episode import EpisodeRequest
from verl.errors import EnvironmentFailedError
from verl.workers.rollout import RolloutOptions, RolloutWorker

SLICE_S = 1.0  # as the driver of a training asks


class OurWay:
    """A :class:`RolloutWorker` in this process. The sidecar must be ready."""

    name = "ours"

    def __init__(self, options: RolloutOptions, critic: Sidecar) -> None:
        before = children()
        self.worker = RolloutWorker(options)
        self.simulators = sorted(children() - before)
        self.critic = critic

    def run(self, seeds: Sequence[int]) -> list[Finished]:
        # an episode's number is its seed: the sampling noise is drawn from it, as in the plain way
        requests = [EpisodeRequest(seed, 0, 0, seed, training=True) for seed in seeds]
        finished: list[Finished] = []
        while len(finished) < len(seeds):
            report = self.worker.advance(requests, SLICE_S)
            requests = []
            for lost in report.lost:
                raise EnvironmentFailedError(f"episode {lost.request.episode} was lost: {lost.reason}")
            ends = [episode.end for episode in report.episodes]
            finished += [Finished(e.request.seed, e.steps, e.complete, e.score, e.timings) for e in ends]
        return finished

    def processes(self) -> dict[str, list[int]]:
        return {"simulators": self.simulators, "critic": self.critic.processes()}

    def close(self) -> None:
        self.worker.close()
