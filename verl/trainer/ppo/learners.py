"""The learners of a run as one: asked together, one answer a rank. A learner cannot be replaced."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from verl.errors import NoAnswerError, RunFailedError
from verl.samples import Samples
from verl.trainer.heartbeat import LearnerWatch

logger = logging.getLogger(__name__)


class Learners:
    """Every call raises RunFailedError when a rank died or does not answer, with the way to go on."""

    def __init__(self, actors: Sequence[Any], watch: LearnerWatch, run_id: str) -> None:
        """``actors``: a handle a rank, in their order."""
        self.actors, self.watch, self.run_id = list(actors), watch, run_id

    def update(self, samples: Samples, rollout: int) -> dict[str, float]:
        """Trains on ``samples``; what :meth:`verl.workers.learner.Learner.update` returns."""
        logger.info("update %d: %d samples, digest %s", rollout, len(samples), samples.digest())
        reference = ray.put(samples)
        calls = [actor.update.remote(reference, rollout) for actor in self.actors]
        metrics: dict[str, float] = self._ask(calls, "the learners' update")[0]
        return metrics

    def weights(self) -> Any:
        """An object reference to the whole policy."""
        return ray.put(self._ask([actor.weights.remote() for actor in self.actors], "the learners' weights")[0])

    def load(self, checkpoint: Path) -> None:
        """Back to what they wrote into it."""
        calls = [actor.load.remote(str(checkpoint)) for actor in self.actors]
        self._ask(calls, "the learners' load of a checkpoint")

    def _ask(self, calls: list[Any], what: str) -> list[Any]:
        try:
            return self.watch.wait(calls, what)
        except (RayActorError, NoAnswerError) as error:
            reason = f"a learner died in {what} ({error})" if isinstance(error, RayActorError) else f"{error}"
            raise RunFailedError(
                f"{reason}; go on from the last checkpoint with trainer.run_id={self.run_id} trainer.resume_mode=auto"
            ) from error
