"""Actors of :mod:`studies.many_nodes`, which sleep where a run's compute. A module of their own: environments need no
torch."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from studies.many_nodes import PASS_S, SIDE
from verl.samples import Samples
from verl.workers.advance import Advance
from verl.workers.batch_split import micro_batches
from verl.workers.learner import Learner
from verl.workers.rollout import RolloutOptions, RolloutWorker


class SleepingWorker(RolloutWorker):
    """The policy's first answer is its every answer, and takes as long as a pass of 7.5 B parameters."""

    def __init__(self, options: RolloutOptions) -> None:
        super().__init__(options)
        picture = np.zeros((1, self.policy.config.num_images_in_input, SIDE, SIDE, 3), np.uint8)
        answer = self.policy.predict(picture, ["lift the red cube"], np.zeros((1, 8), np.float32), temperature=0.0)
        self._left: float | None = None
        self._gaps: list[float] = []

        def predict(images: np.ndarray, *rest: Any, **named: Any) -> Any:
            time.sleep(PASS_S)
            rows = [0] * len(images)
            return answer._replace(
                actions=answer.actions[rows], tokens=answer.tokens[rows], log_probs=answer.log_probs[rows]
            )

        self.policy.predict = predict  # type: ignore[method-assign]

    def advance(self, requests: list[Any], seconds: float) -> Advance:
        if self._left is not None:
            self._gaps.append(time.monotonic() - self._left)
        report = super().advance(requests, seconds)
        self._left = time.monotonic() if report.running else None  # the last of a rollout waits for the update
        return report

    def gaps(self) -> list[float]:
        """Seconds from a report to the next order."""
        return self._gaps


class SleepingLearner(Learner):
    """Looks at its pictures."""

    def _mini_batch(self, batch: Samples, first: Any) -> dict[str, float]:
        for part, _ in micro_batches(batch, self._shares(len(batch))):
            np.asarray(part.images).any()
            self.work.step()
        return {"clip_fraction": 0.0, "grad_norm": 0.0, "made": True}
