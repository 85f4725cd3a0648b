"""The service: takes questions off the bridge, keeps the engine busy, puts replies back.

    main thread      Server.wait (parked on the doorbell) and poll -> planner -> batcher -> wakes an engine thread
                     watches for a wedged engine, probes, publishes metrics, beats
    engine threads   batcher -> engine.answer -> replies -> Server.answer; phases; one thread per slot of the engine

Only the main thread takes questions. The batcher and the replies of unfinished questions are touched under ``_lock``;
the engine works outside of it. A batch is taken when an engine thread is free and never before, so whatever arrives
while the engine works joins the next batch. An engine of several replicas (:mod:`sidecar.crew`) has a thread for each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from evo_vlac.engine import Answer
from evo_vlac.halving import is_out_of_memory
from shm_bridge import Phase, Question, Server, Status
from sidecar.batcher import Batcher, kind_of
from sidecar.config import Config
from sidecar.crew import Crew
from sidecar.engines.base import SidecarEngine
from sidecar.engines.guard import GuardedEngine
from sidecar.engines.replicas import ReplicaEngine
from sidecar.errors import EngineWedgedError, QuestionError, ReplicaLostError
from sidecar.invalid import InvalidLog
from sidecar.last_judged import LastJudged
from sidecar.metrics import Metrics
from sidecar.probe import probe_task
from sidecar.query_planner import QueryPlanner
from sidecar.query_task import QueryTask
from sidecar.reference import References
from sidecar.reply_builder import ExplainedReply, ReplyBuilder
from sidecar.trace import Trace

logger = logging.getLogger(__name__)
_TICK_S = 0.25  # how often the main thread looks around at least
_PUBLISH_S = 1.0
_PHASE_LOOK_S = 0.02
_RESTORE_S = 15.0


@dataclass(slots=True)
class _Running:
    """What a slot of the engine is doing, since when."""

    since_ns: int
    what: str
    limit_s: float


class Service:
    """Serves one run until :meth:`stop`. ``beat`` is called a few times a second while all is well."""

    def __init__(
        self,
        config: Config,
        server: Server,
        engine: SidecarEngine,
        metrics: Metrics,
        references: References,
        beat: Callable[[], None],
        judged: LastJudged | None = None,
    ) -> None:
        self.config, self.server, self.engine, self.metrics = config, server, engine, metrics
        self.crew = Crew(engine, config.health) if isinstance(engine, ReplicaEngine) else None
        parts: Sequence[SidecarEngine] = engine.replicas if isinstance(engine, ReplicaEngine) else [engine]
        self.guards = [GuardedEngine(part, config.batch.max_size) for part in parts]
        clock = time.monotonic_ns
        self.planner = QueryPlanner(references, config.camera, engine.mixes)
        self.replies = ReplyBuilder(config, clock)
        self.batcher = Batcher(config.batch.max_size, int(config.batch.max_wait_ms * 1e6), clock)
        self._beat, self._clock, self._judged = beat, clock, judged
        self._invalid, self.trace = InvalidLog(config.invalid), None if config.trace is None else Trace(config.trace)
        self._lock = threading.Lock()
        self._work_ready = threading.Condition(self._lock)
        self._phase_done = threading.Condition(self._lock)
        self._running: dict[int, _Running] = {}
        self._idle: set[int] = set()  # slots that wait for work
        self._phase, self._change_s = Phase.ROLLOUT, config.start_s  # the weights come back, as they come at the start
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._last_answer_ns = clock()
        self._last_publish_ns = 0
        self._drain_until_ns: int | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serves until :meth:`stop` was called and what was pending is answered (or the drain time is over).

        Raises EngineWedgedError when a batch does not come back, and whatever broke an engine thread.
        """
        threads = [
            threading.Thread(target=self._engine_thread, args=(slot,), name=f"engine-{slot}", daemon=True)
            for slot in range(self.engine.slots)
        ]
        for thread in threads:
            thread.start()
        self.server.set_ready(True)
        try:
            while not self._finished():
                self._turn()
        finally:
            self._stopping.set()
            self.server.set_ready(False)
            with self._work_ready:
                self._work_ready.notify_all()
        for thread in threads:
            thread.join(timeout=1.0)
        if self.trace is not None:
            self.trace.close()

    def stop(self) -> None:
        """Asks for the end; safe to call from a signal handler."""
        self._drain_until_ns = self._clock() + int(self.config.health.drain_s * 1e9)

    def _finished(self) -> bool:
        if self._failure is not None:
            raise self._failure
        if self._drain_until_ns is None:
            return False
        with self._lock:
            pending = len(self.batcher)
            idle = not pending and not self._running
        if not idle and self._clock() >= self._drain_until_ns:
            logger.warning("stopping with %d questions unanswered", pending)
            return True
        return idle

    # -- the main thread ---------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self.server.wait(_TICK_S)
        with self._work_ready:
            for question in self.server.poll():
                self._plan(question)
            for task in self.batcher.expired():
                self._give_up(task, Status.EXPIRED)
            self._work_ready.notify_all()
            if self.server.phase_pending:  # it ends every wait() at once until the engine is free
                self._phase_done.wait(_PHASE_LOOK_S)
        self._watch_engine()
        self._probe_when_idle()
        self._publish()
        self._beat()

    def _plan(self, question: Question) -> None:
        """Puts the question's queries into the batcher. The lock is held."""
        self.metrics.asked(question.kind)
        try:
            tasks = self.planner.plan(question)
        except QuestionError as error:
            return self._reply(question, self.replies.no_answer(question, Status.FAILED, str(error)))
        home = self.crew.home(question) if self.crew is not None else 0
        for task in tasks:
            self.batcher.add(task, home)
        if not tasks:
            self._reply(question, self.replies.without_pairs(question))

    def _watch_engine(self) -> None:
        now = self._clock()
        with self._lock:
            running = list(self._running.values())
        for one in running:
            seconds = (now - one.since_ns) / 1e9
            if seconds > one.limit_s:
                if self.crew is not None and self.crew.end_wedged(one.limit_s):
                    one.since_ns = now
                    continue
                raise EngineWedgedError(
                    f"the engine has not come back from {one.what} for {seconds:.1f} s"
                    f" (health.batch_s={self.config.health.batch_s:g}, of a phase {self._change_s:g})"
                )

    def _probe_when_idle(self) -> None:
        every = self.config.health.probe_every_s
        if not every or self._phase is not Phase.ROLLOUT or self._drain_until_ns is not None:
            return
        with self._work_ready:
            quiet = self._clock() - self._last_answer_ns
            if self._running or len(self.batcher) or quiet < every * 1e9:
                return
            self._last_answer_ns = self._clock()
            for home in self.crew.ups() if self.crew is not None else (0,):
                self.batcher.add(probe_task(self._clock()), home)
            self._work_ready.notify_all()

    def _publish(self) -> None:
        now = self._clock()
        if now - self._last_publish_ns < _PUBLISH_S * 1e9:
            return
        self._last_publish_ns = now
        if (removed := self.server.files_removed()) is not None:
            logger.error("%s. Attached workers are served on, new ones find nothing", removed)
        with self._lock:
            depth = len(self.batcher)
        self.metrics.state(depth, self.engine.memory_bytes(), self._phase, self.server.epoch, self.guards, self.crew)
        snapshot = self.metrics.snapshot()
        self.server.publish_metrics(snapshot)
        if self.trace is not None:
            self.trace.metrics(snapshot)
        logger.info("numbers", extra={"numbers": snapshot})  # once a second into log.file: the run's trace

    # -- the engine threads ------------------------------------------------------------------------------------------

    def _engine_thread(self, slot: int) -> None:
        try:
            while not self._stopping.is_set():
                self._engine_turn(slot)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which ends the process with it
            self._failure = error

    def _engine_turn(self, slot: int) -> None:
        if self.crew is not None:
            self.crew.notice(slot)
        with self._work_ready:
            wanted = self.server.requested_phase if self.server.phase_pending else None
            change = wanted is not None and not self._running
            serves = self._phase is Phase.ROLLOUT and wanted is None
            up = self.crew is None or self.crew.up(slot)
            batch = self._take(slot) if serves and up else []
            if not batch and not change and (up or not serves):
                return self._wait_for_work(slot, serves)
            taken_ns = self._clock()
            if batch or change:
                what = (
                    f"the change to {wanted.name}"
                    if wanted is not None
                    else f"a batch of {len(batch)} {kind_of(batch)} queries"
                )
                limit_s = self._change_s if wanted is not None else self.config.health.batch_s
                self._running[slot] = _Running(taken_ns, what, limit_s)
        try:
            if wanted is not None:
                self._change_phase(wanted)
            elif batch:
                self._run_batch(slot, batch, taken_ns)
            elif self.crew is not None:
                self.crew.revive(slot)
        finally:
            with self._lock:
                self._running.pop(slot, None)

    def _wait_for_work(self, slot: int, serves: bool) -> None:
        """Until something may have come for the slot. The lock is held, and let go meanwhile."""
        wait_ns = self.batcher.wait_ns(self._others_idle()) if serves else None
        self._idle.add(slot)
        self._work_ready.wait(_TICK_S if wait_ns is None else min(_TICK_S, max(wait_ns, 50_000) / 1e9))
        self._idle.discard(slot)

    def _others_idle(self) -> Container[int]:
        """Replicas that take what is theirs: they wait, and each new question wakes them. The lock is held."""
        return self._idle if self.crew is not None else ()

    def _take(self, slot: int) -> list[QueryTask]:
        """The next batch without what was cancelled meanwhile. The lock is held."""
        wanted = []
        for task in self.batcher.take(slot, self._others_idle()):
            if task.question is not None and self.server.cancelled(task.question):
                self._give_up(task, Status.CANCELLED)
            else:
                wanted.append(task)
        return wanted

    def _run_batch(self, slot: int, batch: list[QueryTask], taken_ns: int) -> None:
        try:
            with self.metrics.engine_busy():
                answers = self.guards[slot % len(self.guards)].answer([task.query for task in batch])
        except ReplicaLostError as error:
            return self._hand_on(slot, batch, error)
        engine_ns = self._clock() - taken_ns
        self.metrics.batch(kind_of(batch), len(batch), engine_ns)
        if self.trace is not None:
            self.trace.batch(kind_of(batch), [task.asked_ns for task in batch], taken_ns, engine_ns, slot)
        if self.crew is not None:
            self.crew.answered(slot, len(batch), engine_ns / 1e9)
        with self._lock:
            self._last_answer_ns = self._clock()
            for task, answer in zip(batch, answers):
                if task.question is None:
                    self._probed(slot, answer)
                elif (reply := self.replies.settle(task, answer, taken_ns, engine_ns, len(batch))) is not None:
                    self._reply(task.question, reply)

    def _hand_on(self, slot: int, batch: list[QueryTask], error: ReplicaLostError) -> None:
        """What a lost replica had taken goes to its neighbours. Raises the error where it has none."""
        assert self.crew is not None  # nothing else is lost
        if not self.crew.lost(slot):
            raise error
        logger.error("%s; its batch of %d goes to a neighbour", error, len(batch))
        with self._work_ready:
            for task in batch:
                if task.question is not None:
                    self.batcher.add(task, self.crew.home(task.question))
            self._work_ready.notify_all()

    def _probed(self, slot: int, answer: Answer) -> None:
        """A model of our own that no longer answers needs a new process; one elsewhere is only waited for."""
        if answer.error is None:
            return
        if self.crew is not None and self.crew.lost(slot):
            logger.error("replica %d no longer answers its probe: %s", slot, answer.error)
            return
        if not self.engine.remote:
            raise EngineWedgedError(f"the engine no longer answers its probe: {answer.error}")
        logger.warning("a probe was not answered: %s", answer.error)

    def _change_phase(self, wanted: Phase) -> None:
        started = self._clock()
        if wanted is not self._phase and self.config.memory.on_update == "offload":
            self.engine.offload() if wanted is Phase.UPDATE else self._restore()
        with self._work_ready:
            self._phase = wanted
            self.server.acknowledge_phase(wanted)
            self._phase_done.notify_all()
        if self.trace is not None:
            self.trace.span("phases", f"to {wanted.name}", started, self._clock())
        logger.info("phase %s after %.3f s", wanted.name, (self._clock() - started) / 1e9)

    def _restore(self) -> None:
        """Back onto the accelerator; a trainer may take a moment to let go of it."""
        deadline = time.monotonic() + _RESTORE_S
        while True:
            try:
                return self.engine.restore()
            except Exception as error:
                if not is_out_of_memory(error) or time.monotonic() > deadline:
                    raise
                logger.warning("no room yet to come back from UPDATE: %s", str(error).splitlines()[0])
                time.sleep(_PHASE_LOOK_S * 10)

    def _give_up(self, task: QueryTask, status: Status) -> None:
        """Nobody can have this task's answer any more. The lock is held."""
        if task.question is not None and (reply := self.replies.unanswered(task, status)) is not None:
            self._reply(task.question, reply)

    def _reply(self, question: Question, reply: ExplainedReply) -> None:
        """Puts a reply back and counts it. The lock is held."""
        picture = None if self._judged is None else self._judged.copied(question, reply)
        delivered = self.server.answer(question, reply)
        if self._judged is not None and picture is not None and delivered:
            self._judged.keep(question.kind, picture)
        self.metrics.answered(question.kind, reply, delivered, self._clock() - question.asked_ns)
        if reply.unreadable or reply.status in (Status.INVALID, Status.FAILED):
            self._invalid.note(question, reply)
