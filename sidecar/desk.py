"""From the bridge's questions to the engine's queries, and from its answers back to verdicts.

    Question --open--> Job --> Ask (one query each) ... Answer --settle--> Verdict once all asks of the job are in

DONE is one query, CRITIC one, VALUE one for each pair of neighbouring frames. No threads here; the service holds the
lock.

INVALID is said of a whole answer of the model whose text cannot be read, and of nothing else. Where no such answer came
(an error of the engine, a server's login page, a question that cannot be asked) the verdict is FAILED, with the reason
as its text: the asker may ask again.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evo_vlac import queries, values
from evo_vlac.engine import Answer, Image, Query
from evo_vlac.errors import EvoVlacError
from evo_vlac.parsing import CriticResult, parse_critic, parse_done
from shm_bridge import Kind, Question, Status
from sidecar.batcher import Priority, Work
from sidecar.config import Config

logger = logging.getLogger(__name__)
_NAN = float("nan")
_UNREADABLE_SHARE = 0.5  # of a value list's pairs, at most
Pair = tuple[int, int]
Group = tuple[int, int, int]
VALUE_MODES: dict[str, values.ValueMode] = {"relative": True, "mirror": "mirror", "mix_f": "mix_f"}


@dataclass(slots=True)
class Job:
    """A question on its way: how many answers are missing, and what the finished ones said."""

    question: Question
    pairs: tuple[Pair, ...] = ()
    critics: dict[Pair, CriticResult] = field(default_factory=dict)
    missing: int = 0
    started_ns: int = 0
    batch_ns: int = 0
    engine_ns: int = 0
    batch_size: int = 0
    error: str | None = None  # of the first query that got no answer


@dataclass(frozen=True, slots=True)
class Ask:
    """One query. ``job`` is None where nobody asked yet (a value computed ahead)."""

    query: Query
    job: Job | None
    group: Group
    pair: Pair | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the bridge is told. Times in nanoseconds; ``value``: CRITIC and VALUE percent; DONE NaN. ``values``
    percent. ``probability``: DONE P(done), CRITIC of exactly this answer, VALUE the share of its pairs that could be
    read; ``unreadable`` counts the others. ``text``: what the model said, or what failed."""

    question: Question
    done: bool
    value: float
    probability: float
    valid: bool
    status: Status
    values: npt.NDArray[np.float32] | None
    queue_ns: int
    engine_ns: int
    batch_size: int
    text: str = ""
    images: tuple[Image, ...] = ()
    unreadable: int = 0


class Desk:
    """Opens and settles questions by the configuration.

    Args:
        reference: the reference frames shown with every pair.
        mixed: the engine takes all kinds of queries in one batch.
    """

    def __init__(
        self, config: Config, reference: Sequence[Image], clock: Callable[[], int], mixed: bool = False
    ) -> None:
        self.config, self.reference, self.mixed, self._clock = config, tuple(reference), mixed, clock
        self._ahead: dict[int, _Ahead] = {}
        self._ended: list[Group] = []

    def open(self, question: Question) -> tuple[list[Work[Ask]], Verdict | None]:
        """The works that a question needs; or, where it needs none or is wrong, its verdict at once."""
        group = (question.lane, question.generation, question.episode)
        job = Job(question)
        try:
            if question.kind is Kind.VALUE:
                return self._open_value(job, group)
            frames = question.images(self.config.camera)
            keys = self._keys(question)
            if question.kind is Kind.DONE:
                query = queries.done_query(frames[-1], question.task, keys=keys[-1:])
                works = [self._work(query, job, group, Priority.WAITED_FOR)]
                works += self._look_ahead(question, group, frames[-1], keys[-1])
            else:
                query = self._critic(question.task, frames, keys, (0, 1), frames[0], keys[0])
                works = [self._work(query, job, group, Priority.ANSWER)]
        except (EvoVlacError, ValueError, IndexError, KeyError) as error:
            return [], self._refused(job, f"{type(error).__name__}: {error}")
        job.missing = 1
        return works, None

    def settle(self, ask: Ask, answer: Answer, taken_ns: int, engine_ns: int, batch_size: int) -> Verdict | None:
        """Takes an answer in; the verdict when it was the last one missing."""
        job = ask.job
        if job is None:
            self._keep_ahead(ask, answer)
            return None
        job.started_ns = job.started_ns or taken_ns
        if job.batch_ns != taken_ns:  # several asks of a job in one batch cost its time once
            job.batch_ns = taken_ns
            job.engine_ns += engine_ns
        job.batch_size = max(job.batch_size, batch_size)
        job.missing -= 1
        try:
            return self._read(ask, job, answer)
        except Exception as error:  # whatever an answer does to its reading, the others go on
            logger.debug("a %s answer", job.question.kind.name, exc_info=True)
            reason = f"the engine's answer cannot be read: {type(error).__name__}: {error}"
            return self._read(ask, job, Answer("", error=reason))

    def _read(self, ask: Ask, job: Job, answer: Answer) -> Verdict | None:
        if job.error is None:
            job.error = answer.error
        if job.question.kind is Kind.DONE:
            result = parse_done(answer, self.config.threshold)
            return self._verdict(
                job, result.done, _NAN, result.probability, result.valid, answer.text, ask.query.images
            )
        critic = parse_critic(answer, rich=self.config.values.rich)
        if job.question.kind is Kind.CRITIC:
            images = ask.query.images[-2:]
            return self._verdict(job, False, critic.value, critic.probability, critic.valid, answer.text, images)
        assert ask.pair is not None
        job.critics[ask.pair] = critic
        return None if job.missing else self._value_verdict(job)

    def expired(self, ask: Ask, status: Status) -> Verdict | None:
        """The verdict of a question whose time ran out or whose batch failed; None if it has one already."""
        job = ask.job
        if job is None or job.missing == 0:
            return None
        job.missing = 0
        return self._closed(job, status, "")

    def ended(self) -> list[Group]:
        """Episodes that ended since the last call: what is still to be computed ahead for them, nobody will ask for."""
        ended, self._ended = self._ended, []
        return ended

    # -- value lists -------------------------------------------------------------------------------------------------

    def _open_value(self, job: Job, group: Group) -> tuple[list[Work[Ask]], Verdict | None]:
        question = job.question
        job.pairs = tuple(itertools.pairwise(range(len(question.steps))))
        if not job.pairs:
            return [], self._value_verdict(job)
        frames = question.images(self.config.camera)
        keys = self._keys(question)
        known = self._ahead_results(group)
        works: list[Work[Ask]] = []
        for pair in job.pairs:
            steps = (question.steps[pair[0]], question.steps[pair[1]])
            if steps in known:
                job.critics[pair] = known[steps]
                continue
            query = self._critic(question.task, frames, keys, pair, frames[0], keys[0])
            works.append(self._work(query, job, group, Priority.WAITED_FOR, pair))
        job.missing = len(works)
        return works, None if works else self._value_verdict(job)

    def _value_verdict(self, job: Job) -> Verdict:
        """The list, in which a pair that cannot be read keeps the value before it.

        It counts while that is an exception: the last pair, whose value is the reward, and at least half of all can be
        read. A pair without an answer is no pair that says nothing: the list has failed.
        """
        if job.error is not None:
            return self._closed(job, Status.FAILED, job.error)
        critics = [job.critics[pair] for pair in job.pairs]
        numbers = [critic.value if critic.valid else _NAN for critic in critics]
        listed = values.critic_to_values(numbers, VALUE_MODES[self.config.values.mode])
        wrong = [critic.text for critic in critics if not critic.valid]
        readable = 1.0 - len(wrong) / len(critics) if critics else 1.0
        valid = not wrong or (critics[-1].valid and len(wrong) <= _UNREADABLE_SHARE * len(critics))
        status = Status.OK if valid else Status.INVALID
        array = np.asarray(listed, np.float32)
        text = wrong[0] if wrong else ""
        return self._make(job, False, listed[-1], readable, valid, status, array, text, unreadable=len(wrong))

    def _look_ahead(self, question: Question, group: Group, frame: Image, key: Hashable) -> list[Work[Ask]]:
        stride = self.config.values.ahead_stride
        step = question.steps[-1]
        if not stride or step % stride:
            return []
        ahead = self._ahead.get(question.lane)
        if ahead is None or ahead.group != group:
            if ahead is not None:
                self._ended.append(ahead.group)
            ahead = self._ahead[question.lane] = _Ahead(group)
        # A copy: the frame may be asked for long after its episode, and with it its slot, is gone.
        kept = (step, np.array(frame), key)
        before, ahead.last = ahead.last, kept
        ahead.first = ahead.first or kept
        if before is None or before[0] >= step:
            return []
        query = self._critic(
            question.task, [before[1], kept[1]], [before[2], key], (0, 1), ahead.first[1], ahead.first[2]
        )
        return [self._work(query, None, group, Priority.AHEAD, (before[0], step))]

    def _keep_ahead(self, ask: Ask, answer: Answer) -> None:
        ahead = self._ahead.get(ask.group[0])
        if ahead is None or ahead.group != ask.group or ask.pair is None or answer.error is not None:
            return
        ahead.critics[ask.pair] = parse_critic(answer, rich=self.config.values.rich)

    def _ahead_results(self, group: Group) -> dict[Pair, CriticResult]:
        ahead = self._ahead.get(group[0])
        return ahead.critics if ahead is not None and ahead.group == group else {}

    # -- queries -----------------------------------------------------------------------------------------------------

    def _critic(
        self,
        task: str,
        frames: Sequence[Image],
        keys: Sequence[Hashable],
        pair: Pair,
        first: Image,
        first_key: Hashable,
    ) -> Query:
        before, after = pair
        shown: tuple[Hashable, ...] = (keys[before], keys[after])
        if not self.reference:
            return queries.critic_query(frames[before], frames[after], task, keys=shown)
        names = tuple(("reference", i) for i in range(len(self.reference)))
        return queries.critic_query(
            frames[before],
            frames[after],
            task,
            reference=self.reference,
            first=first,
            keys=(*names, first_key, *shown),
        )

    def _keys(self, question: Question) -> list[tuple[Hashable, ...]]:
        """Identity of every frame over time, the step last."""
        return [(*key, step) for key, step in zip(question.frame_keys, question.steps)]

    def _work(
        self, query: Query, job: Job | None, group: Group, priority: Priority, pair: Pair | None = None
    ) -> Work[Ask]:
        asked, deadline = (job.question.asked_ns, job.question.deadline_ns) if job else (self._clock(), 0)
        bucket = None if self.mixed else (query.kind, len(query.images), np.asarray(query.images[-1]).shape)
        return Work(Ask(query, job, group, pair), group[0], bucket, priority, asked, deadline, group)

    # -- verdicts ----------------------------------------------------------------------------------------------------

    def _verdict(
        self, job: Job, done: bool, value: float, probability: float, valid: bool, text: str, images: tuple[Image, ...]
    ) -> Verdict:
        """Of a question that is one query."""
        if job.error is not None:
            return self._closed(job, Status.FAILED, job.error)
        if valid:
            return self._make(job, done, value, probability, True, Status.OK)
        return self._make(job, False, _NAN, _NAN, False, Status.INVALID, None, text, images, 1)

    def _refused(self, job: Job, reason: str) -> Verdict:
        question = job.question
        logger.warning("a %s question of lane %s cannot be asked: %s", question.kind.name, question.name, reason)
        return self._closed(job, Status.FAILED, reason)

    def _closed(self, job: Job, status: Status, text: str) -> Verdict:
        return self._make(job, False, _NAN, _NAN, False, status, None, text)

    def _make(
        self,
        job: Job,
        done: bool,
        value: float,
        probability: float,
        valid: bool,
        status: Status,
        listed: npt.NDArray[np.float32] | None = None,
        text: str = "",
        images: tuple[Image, ...] = (),
        unreadable: int = 0,
    ) -> Verdict:
        started = job.started_ns or self._clock()
        return Verdict(
            question=job.question,
            done=done,
            value=value if valid and math.isfinite(value) else _NAN,
            probability=probability,
            valid=valid,
            status=status,
            values=listed,
            queue_ns=max(0, started - job.question.asked_ns),
            engine_ns=job.engine_ns,
            batch_size=job.batch_size,
            text=text,
            images=images,
            unreadable=unreadable,
        )


Frame = tuple[int, Image, Hashable]


@dataclass(slots=True)
class _Ahead:
    """What is computed ahead for the running episode of one lane: first and last kept frame, critics by steps."""

    group: Group
    first: Frame | None = None
    last: Frame | None = None
    critics: dict[Pair, CriticResult] = field(default_factory=dict)
