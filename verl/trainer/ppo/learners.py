"""The learners of a run as one: asked together, one answer a rank. A learner cannot be replaced."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from evo_vlac.weight_files import reading_s
from verl.errors import NoAnswerError, RunFailedError
from verl.pictures import Pictures
from verl.samples import Samples
from verl.trainer import ray_wait
from verl.trainer.heartbeat import LearnerWatch
from verl.trainer.ray_store import bucket_bytes
from verl.workers.weight_buckets import IN_FLIGHT
from verl.workers.weight_transfer import Receiver
from verl.workers.work import GROUP, Report

logger = logging.getLogger(__name__)
NODE_LOSS_S = 60.0  # Ray needs so long at most to notice that a node is gone
SHOWN = "the learners' taking of pictures"
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
        outline = ray.put(samples.outline())
        calls = [actor.wants.remote(outline, rollout) for actor in self.actors]
        self._show(Pictures.of([samples.images]), self.ask(calls, "what the learners want to see"))
        calls = [actor.update.remote(outline, rollout) for actor in self.actors]
        metrics: dict[str, float] = self.ask(calls, "the learners' update")[0]
        return metrics

    def _show(self, pictures: Pictures, wanted: Sequence[np.ndarray]) -> None:
        """Gives each rank the pictures at its positions, ``IN_FLIGHT`` pieces a rank at a time: all together they are
        larger than Ray's store."""
        self._places()
        size = max(1, self._bucket_bytes // pictures.row_bytes)
        on_way: deque[list[Any]] = deque()
        for first in range(0, max(map(len, wanted)), size):
            parts = [np.asarray(pictures[positions[first : first + size]]) for positions in wanted]
            calls = [actor.take_pictures.remote(first, part) for actor, part in zip(self.actors, parts) if len(part)]
            on_way.append(calls)
            if len(on_way) >= IN_FLIGHT:
                self.ask(on_way.popleft(), SHOWN)
        while on_way:
            self.ask(on_way.popleft(), SHOWN)

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
        for of_rank in self.ask(list(calls), "the learners' hand-over of weights", also):
            lost |= of_rank
        return lost

    def load(self, checkpoint: Path) -> None:
        """Back to what they wrote into it."""
        size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
        calls = [actor.load.remote(str(checkpoint)) for actor in self.actors]
        self.ask(calls, f"the learners' load of {size / 1e9:.1f} GB from {checkpoint}", at_least_s=reading_s(size))

    def _places(self) -> dict[str, int]:
        if self._cards is None:
            cards = self.ask([actor.card.remote() for actor in self.actors], "the learners' cards")
            self._cards = {card: rank for rank, card in enumerate(cards) if card is not None}
            self._bucket_bytes = bucket_bytes(len(self.actors) * IN_FLIGHT)
        return self._cards

    def ask(self, calls: list[Any], what: str, also: Also = lambda reports: None, at_least_s: float = 0.0) -> list[Any]:
        try:
            return self.watch.wait(calls, what, also, at_least_s)
        except (RayActorError, NoAnswerError) as error:
            reason = f"a learner died in {what} ({error})" if isinstance(error, RayActorError) else f"{error}"
            raise self._ended(reason) from error
        except RayTaskError as error:
            if (gone := self._gone()) is None:
                raise
            raise self._ended(f"a learner died in {what} ({gone})") from error

    def _ended(self, reason: str) -> RunFailedError:
        return RunFailedError(
            f"{reason}; go on from the last checkpoint with trainer.run_id={self.run_id} trainer.resume_mode=auto "
            "(on fewer nodes, with fewer learners, too)"
        )

    def _gone(self) -> str | None:
        """Which rank is no more, when another's call has failed: that one's collective broke, of which it knows long
        before Ray does."""
        asked = [actor.report.options(concurrency_group=GROUP).remote() for actor in self.actors]
        for rank, call in enumerate(asked):
            try:
                ray_wait.get([call], NODE_LOSS_S, "the learners' reports")
            except (RayActorError, NoAnswerError) as error:
                return f"rank {rank}: {str(error).splitlines()[0]}"
        return None
