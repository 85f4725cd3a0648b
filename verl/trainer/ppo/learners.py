"""The learners of a run as one: asked together, one answer a rank. A learner cannot be replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from evo_vlac.weight_files import reading_s
from verl.errors import NoAnswerError, RunFailedError
from verl.samples import Samples
from verl.trainer.heartbeat import LearnerWatch
from verl.trainer.ray_store import bucket_bytes
from verl.workers.weight_transfer import IN_FLIGHT, Receiver
from verl.workers.work import Report

logger = logging.getLogger(__name__)
Also = Callable[[list[Report | None]], None]


class Learners:
    """Every call raises RunFailedError when a rank died or does not answer, with the way to go on."""

    def __init__(self, actors: Sequence[Any], watch: LearnerWatch, run_id: str) -> None:
        """``actors``: a handle a rank, in their order."""
        self.actors, self.watch, self.run_id = list(actors), watch, run_id
        self._cards: dict[str, int] | None = None  # a learner on each
        self._bucket_bytes = 0
        self._handed_over = 0

    def update(self, samples: Samples, rollout: int) -> dict[str, float]:
        """Trains on ``samples``; what :meth:`verl.workers.learner.Learner.update` returns."""
        logger.info("update %d: %d samples, digest %s", rollout, len(samples), samples.digest())
        reference = ray.put(samples)
        calls = [actor.update.remote(reference, rollout) for actor in self.actors]
        metrics: dict[str, float] = self._ask(calls, "the learners' update")[0]
        return metrics

    def hand_over(self, workers: Sequence[tuple[int, Any, str | None]]) -> list[Any]:
        """Begins to send the weights as they are now to ``workers``, which have started: index, actor, its card.

        Hand-overs follow one another in the order of their beginnings; one worker must have taken all of one before it
        is in the next.

        Returns:
            Calls, for :meth:`handed_over`.
        """
        cards = self._places()
        receivers = [Receiver(index, actor, cards.get(card or "")) for index, actor, card in workers]
        self._handed_over += 1
        return [actor.hand_over.remote(self._handed_over, receivers, self._bucket_bytes) for actor in self.actors]

    def handed_over(self, calls: Sequence[Any], also: Also = lambda reports: None) -> dict[int, str]:
        """Until a hand-over is complete; the workers that did not take it, by index, and why. ``also``: meanwhile."""
        lost: dict[int, str] = {}
        for of_rank in self._ask(list(calls), "the learners' hand-over of weights", also):
            lost |= of_rank
        return lost

    def load(self, checkpoint: Path) -> None:
        """Back to what they wrote into it."""
        size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
        calls = [actor.load.remote(str(checkpoint)) for actor in self.actors]
        self._ask(calls, f"the learners' load of {size / 1e9:.1f} GB from {checkpoint}", at_least_s=reading_s(size))

    def _places(self) -> dict[str, int]:
        if self._cards is None:
            cards = self._ask([actor.card.remote() for actor in self.actors], "the learners' cards")
            self._cards = {card: rank for rank, card in enumerate(cards) if card is not None}
            self._bucket_bytes = bucket_bytes(len(self.actors) * IN_FLIGHT)
        return self._cards

    def _ask(
        self, calls: list[Any], what: str, also: Also = lambda reports: None, at_least_s: float = 0.0
    ) -> list[Any]:
        try:
            return self.watch.wait(calls, what, also, at_least_s)
        except (RayActorError, NoAnswerError) as error:
            reason = f"a learner died in {what} ({error})" if isinstance(error, RayActorError) else f"{error}"
            raise RunFailedError(
                f"{reason}; go on from the last checkpoint with trainer.run_id={self.run_id} trainer.resume_mode=auto"
            ) from error
