"""Whether an actor still lives and moves: asked again and again while its long call runs, never waited for.

driver --report()--> a thread of the actor that does nothing else     silent: no answer; it is stopped, or its node
       <--Report---                                                   still: it answers, but the call's steps stand
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from verl.errors import NoAnswerError, RunFailedError
from verl.trainer import ray_wait
from verl.trainer.watchdog import OwnTime
from verl.workers.work import GROUP, Report

logger = logging.getLogger(__name__)
EVERY_S = 2.0
NAMED_S = 45.0  # silent for so long: said
SILENT_S = 75.0  # ... and given up
STILL_S = 110.0  # no step for so long: said


def reporting(kind: type) -> Any:
    """The actor class of ``kind``, whose method ``report`` is answered by a thread of its own."""
    groups: dict[str, Any] = {"concurrency_groups": {GROUP: 1}}  # not among those that Ray's types know
    return ray.remote(**groups)(kind)


class Heartbeat:
    """One actor's. ``started``: it has answered before; else its start, which may take long, is not counted."""

    def __init__(self, actor: Any, clock: Callable[[], float], started: Report | None = None) -> None:
        self.actor, self.clock, self.last = actor, clock, started
        self._pending: Any = None
        self._asked = clock() - EVERY_S
        self._moved = clock()

    def look(self) -> None:
        """Takes an answer that is there; asks again when it is time."""
        now = self.clock()
        if self._pending is not None and ray.wait([self._pending], timeout=0)[0]:
            call, self._pending = self._pending, None
            self._take(call, now)
        if self._pending is None and now - self._asked >= EVERY_S:
            self._pending, self._asked = self.actor.report.options(concurrency_group=GROUP).remote(), now

    def _take(self, call: Any, now: float) -> None:
        try:
            report = ray.get(call)
        except RayError:  # that it died is seen by who waits for its work
            return
        before, self.last = self.last, report
        if before is None or before.moves != report.moves:
            self._moved = now

    @property
    def silent_s(self) -> float:
        """Seconds since a question that was not answered; 0 while it starts."""
        return 0.0 if self._pending is None or self.last is None else self.clock() - self._asked

    @property
    def still_s(self) -> float:
        """Seconds without a step."""
        return self.clock() - self._moved

    def place(self) -> str:
        """Where it was last seen, and at what."""
        return "not started" if self.last is None else str(self.last)


class LearnerWatch:
    """The learners' calls, waited for with an eye on each rank.

    A rank that does not answer any more ends the run; one that answers is left alone, so long as it makes a step
    within ``stall_timeout_s``. Either is named within two minutes, by ``note``.
    """

    def __init__(self, learners: Sequence[Any], note: Callable[[str], None], stall_timeout_s: float) -> None:
        self.learners, self.note, self.stall_timeout_s = list(learners), note, stall_timeout_s
        self.known: list[Report | None] = [None] * len(self.learners)

    def start(self, timeout_s: float, what: str = "the learners' start") -> None:
        """Until every rank has been made. Raises NoAnswerError, and RunFailedError for what went wrong in one."""
        calls = [learner.report.options(concurrency_group=GROUP).remote() for learner in self.learners]
        try:
            self.known = list(ray_wait.get(calls, timeout_s, what))
        except RayActorError as error:
            if not error.actor_init_failed:
                raise
            raise RunFailedError(f"a learner could not be made: {str(error).strip().splitlines()[-1]}") from error

    def wait(
        self,
        calls: Sequence[Any],
        what: str,
        also: Callable[[list[Report | None]], None] = lambda reports: None,
        at_least_s: float = 0.0,
    ) -> list[Any]:
        """The results of ``calls``, one a rank.

        Args:
            also: called about once a second with the latest report of each rank; what it raises ends the wait.
            at_least_s: that it may go on without a step, where that is more than ``stall_timeout_s``.

        Raises:
            NoAnswerError: a rank is stopped or stands still; says which, where, at what.
            RayError: of the first that failed.
        """
        round_ = _Round(self, what, max(self.stall_timeout_s, at_least_s))

        def look() -> None:
            round_.look()
            also([beat.last for beat in round_.beats])

        try:
            return ray_wait.get(calls, float("inf"), what, look)
        finally:
            self.known = [beat.last for beat in round_.beats]


class _Round:
    """One wait: what was said in it already. Waits of two threads have one each."""

    def __init__(self, watch: LearnerWatch, what: str, limit_s: float) -> None:
        self.watch, self.what, self.limit_s = watch, what, limit_s
        clock = OwnTime()
        self.beats = [Heartbeat(actor, clock, known) for actor, known in zip(watch.learners, watch.known)]
        self._said: set[str] = set()

    def look(self) -> None:
        for rank, beat in enumerate(self.beats):
            beat.look()
            name = f"learner {rank} ({beat.place()})"
            if beat.silent_s >= SILENT_S:
                raise NoAnswerError(f"{self.what}: {name} has not answered for {beat.silent_s:.0f} s: is it stopped?")
            self._tell(beat.silent_s >= NAMED_S, f"silent-{rank}", f"{name} has not answered for {beat.silent_s:.0f} s")
        # those that wait for another in a collective stand still as well: one that moves is enough
        first = min(self.beats, key=lambda beat: beat.still_s)
        if (still := first.still_s) >= self.limit_s:
            raise NoAnswerError(
                f"{self.what}: no learner has made a step for {still:.0f} s, "
                f"trainer.stall_timeout_s={self.limit_s:g} ({first.place()})"
            )
        message = f"no learner has made a step for {still:.0f} s, though they answer ({first.place()})"
        self._tell(still >= STILL_S, "still", message)

    def _tell(self, wrong: bool, key: str, message: str) -> None:
        """Once when it begins, once when it is over."""
        if wrong and key not in self._said:
            self._said.add(key)
            logger.warning("%s: %s", self.what, message)
            self.watch.note(f"{self.what}: {message}")
        elif not wrong and key in self._said:
            self._said.discard(key)
            self.watch.note(f"{self.what}: it goes on")
