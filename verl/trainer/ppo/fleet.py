"""The driver's view of all rollout workers: hands episodes out, takes results in, replaces what dies.

request -> a worker -> Episode
   ^           |-----> lost with the worker, or for the first time: once more, identically
   |           |-----> lost for the second time: given up
   `-----------+-----> dropped for a verdict: given up at once, since the same episode would be dropped again
"""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from verl.episode import Episode, EpisodeLost, EpisodeRequest
from verl.errors import NoAnswerError, RunFailedError
from verl.trainer import ray_wait
from verl.trainer.heartbeat import Heartbeat
from verl.trainer.load_limits import NOTHING_TO_LOAD, LoadLimit
from verl.trainer.ppo.env_errors import EnvErrors
from verl.trainer.ppo.fleet_statistics import WINDOW, FleetStatistics
from verl.trainer.ppo.fleet_worker import FleetWorker
from verl.trainer.ppo.learners import Learners
from verl.trainer.ppo.renderers import Renderers
from verl.trainer.watchdog import OwnTime
from verl.workers.advance import Advance
from verl.workers.work import Report

logger = logging.getLogger(__name__)
SLICE_S = 1.0  # how long a worker runs before it reports
TRIES = 2  # of one request that fails by itself
MOST_FAILURES = 3  # with no episode between them: the worker is given up, the others go on
GONE = (RayActorError, ObjectLostError)  # it, or its node with what it had reported


class Fleet:
    """Rollout workers as one. ``make(index)`` returns a new worker's actor handle."""

    def __init__(
        self,
        make: Callable[[int], Any],
        workers: int,
        capacity: int,
        timeout_s: float,
        max_lost_share: float,
        on_tick: Callable[[], None],
        away: Callable[[int], bool] = lambda index: False,
        start_limit: LoadLimit = NOTHING_TO_LOAD,
        note: Callable[[str], None] = logger.warning,
    ) -> None:
        """
        Args:
            capacity: episodes that one worker can have at once: playing, or waiting for their verdicts.
            timeout_s: a worker that does not report for so long is replaced.
            max_lost_share: of the latest ``WINDOW`` episodes, the share of lost ones over which the run fails; those
                that a worker takes with it do not count.
            on_tick: called about once a second while episodes run.
            away: whether a worker should be made anew where it belongs: a lost node was replaced.
            start_limit: a worker may take so long to start.
            note: tells the user of something.
        """
        self.make, self.capacity, self.timeout_s = make, capacity, timeout_s
        self.max_lost_share, self.on_tick, self.away = max_lost_share, on_tick, away
        self._failed: dict[int, int] = {}  # tries of running requests that failed, by episode
        self.statistics, self.errors, self.renderers = FleetStatistics(), EnvErrors(note), Renderers(note)
        self.start_limit, self._clock = start_limit, OwnTime()
        self.weights: Learners | None = None  # who sends them to workers that are made later
        self.workers = [self._make(i) for i in range(workers)]

    def _make(self, index: int) -> FleetWorker:
        actor = self.make(index)
        return FleetWorker(index, actor, Heartbeat(actor, self._clock), actor.card.remote())

    def _make_anew(self, worker: FleetWorker) -> None:
        actor = self.make(worker.index)
        worker.renew(actor, Heartbeat(actor, self._clock))

    def environments_ready(self) -> int:
        """Environments whose simulator stands, as the workers last reported."""
        return sum(worker.ready for worker in self.workers)

    def start(self) -> None:
        """Until the workers have started. One that does not is replaced, and :meth:`run` waits for the new one."""
        for worker in list(self.workers):
            what = f"the start of rollout worker {worker.index} ({self.start_limit})"
            try:
                ray_wait.get([worker.starting], self.start_limit.seconds, what, worker.look)
                worker.look_at_start(self.start_limit)
            except (*GONE, NoAnswerError) as error:
                self._replace(worker, deque(), _story(error))

    def load_weights(self, learners: Learners, told: Callable[[float], None] = lambda share: None) -> None:
        """Has the learners send their weights to every worker that has started, and to later ones when they have.

        No episode may run. Returns when all is taken. ``told``: how much of it is, 0 to 1, about once a second.
        """
        self.weights, started = learners, time.monotonic()
        for worker in list(self.workers):
            if self.away(worker.index):
                logger.info("rollout worker %d goes back to where it belongs", worker.index)
                ray.kill(worker.actor)
                self._make_anew(worker)
            elif worker.loading and (reason := learners.handed_over(worker.loading).get(worker.index)):
                self._replace(worker, deque(), reason)
        there = [worker for worker in self.workers if worker.starting is None]
        if not there:
            return
        silent: dict[int, str] = {}

        def also(reports: list[Report | None]) -> None:
            told(min((r.steps / r.of for r in reports if r is not None and r.of), default=0.0))
            for worker in there:
                try:
                    worker.look()
                except NoAnswerError as error:  # ended now: the learners need not wait for it
                    ray.kill(worker.actor)
                    silent.setdefault(worker.index, str(error))

        lost = learners.handed_over(learners.hand_over([worker.receiver for worker in there]), also)
        for worker in there:
            worker.loading = []
            if reason := silent.get(worker.index) or lost.get(worker.index):
                self._replace(worker, deque(), reason)
        logger.info("weights to %d rollout workers in %.1f s", len(there), time.monotonic() - started)

    def _settled(self, worker: FleetWorker, queue: deque[EpisodeRequest]) -> bool:
        """Whether it can be given episodes. Has it sent the weights once it has started."""
        if worker.settled:
            return True
        try:
            if not worker.look_at_start(self.start_limit):
                return False
            worker.look()
            if self.weights is not None:
                worker.loading = worker.loading or self.weights.hand_over([worker.receiver])
                if worker.waits_for():
                    return False
                lost = self.weights.handed_over(worker.loading)
                worker.loading = []
                if reason := lost.get(worker.index):
                    raise NoAnswerError(reason)
        except (*GONE, NoAnswerError) as error:
            self._replace(worker, queue, _story(error))
        return worker.settled

    def run(
        self,
        requests: list[EpisodeRequest],
        finished: list[Episode],
        given_up: list[EpisodeLost],
        refill: Callable[[int], list[EpisodeRequest]],
    ) -> Iterator[Episode]:
        """Runs ``requests``, and whatever ``refill(group)`` adds after each that has ended; yields the episodes.

        Each request is in ``finished`` or in ``given_up`` before ``refill`` is told its group.
        """
        queue = deque(requests)
        self._failed.clear()
        while queue or any(w.running for w in self.workers):
            for worker in list(self.workers):
                if self._settled(worker, queue):
                    self._dispatch(worker, queue)
            calls = [call for worker in self.workers for call in worker.waits_for()]
            done, _ = ray.wait(calls, num_returns=1, timeout=SLICE_S * 2) if calls else ([], [])
            for worker in list(self.workers):
                worker.heartbeat.look()  # also of those that report in time: that they have started is known later
                if worker.call is not None and worker.call in done:
                    episodes, gone = self._collect(worker, queue)
                    for lost in gone:
                        given_up.append(lost)
                        queue.extend(refill(lost.request.group))
                    for episode in episodes:
                        finished.append(episode)
                        queue.extend(refill(episode.request.group))
                        yield episode
                elif worker.call is not None and (reason := self._too_late(worker)):
                    self._replace(worker, queue, reason)
            self.on_tick()
            ray_wait.beat("the rollout")

    def _too_late(self, worker: FleetWorker) -> str | None:
        """Why a worker whose report has not come is given up; None when it is not."""
        try:
            worker.look()
        except NoAnswerError as error:
            return str(error)
        late = time.monotonic() - worker.since > self.timeout_s
        return f"no report for {self.timeout_s:.0f} s" if late else None

    def _dispatch(self, worker: FleetWorker, queue: deque[EpisodeRequest]) -> None:
        if worker.call is not None:
            return
        # one more than it can have, so that none waits while the driver thinks; and no more than its share of all
        share = -(-(len(queue) + sum(len(w.running) for w in self.workers)) // len(self.workers))
        room = max(0, min(self.capacity + 1, share) - len(worker.running))
        fresh = [queue.popleft() for _ in range(min(len(queue), room))]
        worker.running.update({r.episode: r for r in fresh})
        if worker.running:
            worker.call = worker.actor.advance.remote(fresh, SLICE_S)
            worker.since = time.monotonic()

    def _collect(self, worker: FleetWorker, queue: deque[EpisodeRequest]) -> tuple[list[Episode], list[EpisodeLost]]:
        """What a worker reports: episodes, and requests that nobody will run again."""
        try:
            report = _taken_out(ray.get(worker.call))
        except GONE as error:
            self._replace(worker, queue, _story(error))
            return [], []
        except RayTaskError as error:
            raise RunFailedError(f"rollout worker {worker.index}: {error.cause}") from error
        worker.call, worker.ready = None, report.environments_ready
        self.renderers.reported(worker.index, report)
        if report.episodes or report.lost:  # that it reports is not enough: it may die of what it was given
            worker.failures = 0
        self.statistics.worked(report)
        gone: list[EpisodeLost] = []
        for lost in report.lost:
            worker.running.pop(lost.request.episode)
            self.errors.lost(lost)
            if lost.dropped:
                self.statistics.dropped += 1
                logger.warning("episode %d dropped: %s", lost.request.episode, lost.reason)
                gone.append(lost)
            elif self._try_again(lost):
                queue.append(lost.request)
            else:
                gone.append(lost)
        for episode in report.episodes:
            worker.running.pop(episode.request.episode)
            self._failed.pop(episode.request.episode, None)
            self.statistics.tried(failed=False)
            self.errors.finished()
        return list(report.episodes), gone

    def _try_again(self, lost: EpisodeLost) -> bool:
        """Counts a try that failed by itself; False when it was the last. Raises when too many do."""
        stats, number = self.statistics, lost.request.episode
        stats.count_lost(lost.reason)
        stats.tried(failed=True)
        if (failed := stats.recently_failed) > self.max_lost_share * WINDOW:
            raise RunFailedError(
                f"{failed} of the latest {len(stats.recent)} episodes were lost, more than "
                f"trainer.max_lost_share={self.max_lost_share:g} of {WINDOW}; the last: {lost.reason}"
            )
        self._failed[number] = self._failed.get(number, 0) + 1
        if self._failed[number] < TRIES:
            return True
        del self._failed[number]
        stats.given_up += 1
        logger.warning(
            "episode %d (task %d, seed %d) was lost %d times: given up",
            number,
            lost.request.task,
            lost.request.seed,
            TRIES,
        )
        return False

    def _replace(self, worker: FleetWorker, queue: deque[EpisodeRequest], reason: str) -> None:
        """A new actor in the place of one that died or hangs; its episodes are run again."""
        ray.kill(worker.actor)
        queue.extendleft(reversed(worker.running.values()))
        lost = len(worker.running)
        worker.running, worker.call, worker.ready = {}, None, 0
        worker.failures += 1
        self.statistics.lost_with_workers += lost
        self.statistics.count_lost(f"rollout worker {reason}", lost)
        if worker.failures >= MOST_FAILURES:
            logger.warning("rollout worker %d %s: given up", worker.index, reason)
            self.workers.remove(worker)
            if not self.workers:
                raise RunFailedError(f"no rollout worker is left; the last {reason}")
            return
        logger.warning("rollout worker %d %s: replaced", worker.index, reason)
        self.statistics.workers_replaced += 1
        self._make_anew(worker)

    def close(self) -> None:
        """Ends the workers and their environment processes."""
        ray_wait.settle([w.actor.close.remote() for w in self.workers], 10, "the end of the rollout workers")
        for worker in self.workers:
            ray.kill(worker.actor)


def _taken_out(report: Advance) -> Advance:
    """A copy of a worker's report. Its arrays are views that keep all of it in Ray's store while one of them lives, and
    that store is small: what a rollout brings would overflow it, and one view kept for good would keep a report.
    """
    return copy.deepcopy(report)


def _story(error: Exception) -> str:
    """What happened, in a line."""
    if isinstance(error, NoAnswerError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"died ({type(error).__name__}: {lines[-1] if lines else 'no reason given'})"
