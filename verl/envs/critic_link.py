"""An environment process's end of the conversation with the critic: its lane, its frames, its questions.

    draw (renderer writes the slot) -> publish -> ask DONE ... poll / wait -> verdicts by step
                                               -> ask VALUE (at the end)       -> value list
                              an outage (FAILED, EXPIRED) --> the same question again, after a pause

Only what the model said leaves this file: a readable reply or an unreadable one. When the sidecar dies, the bridge asks
the pending questions again of the one that takes its place; here is decided how long that is waited for. Waiting ends
by the sidecar's progress, not by ours: as long as it answers anybody, a long queue is no outage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from shm_bridge import (
    CameraSpec,
    FrameSlot,
    Kind,
    Lane,
    LaneSpec,
    QuestionsFull,
    ReserveTimeout,
    SidecarDied,
    Status,
    Verdict,
    VerdictTimeout,
)
from shm_bridge.rules import FrameVerdict, value_steps
from verl.critic_config import CriticConfig
from verl.envs.base import Camera, Environment
from verl.envs.episode_scoring import Values
from verl.envs.open_questions import OpenQuestion, OpenQuestions
from verl.errors import CriticBridgeError, QuestionFailedError, SidecarLostError

SLICE_S = 1.0  # longest silence towards the parent while waiting
LOOK_S = 0.1  # between looks for a new sidecar, and at whether the sidecar gets on
OVERDUE = 10  # times the time-out: a question that old is lost, although others are answered

T = TypeVar("T")


class CriticLink:
    """One lane with one camera, held by the process for its life. Not thread-safe.

    Attributes:
        latencies_us: of the episode's answers, from the first asking of each.
        outages: askings of the episode to which no reply of the model came, and which were repeated.
        blocked_s: seconds of the episode spent waiting for room in the lane.
    """

    def __init__(
        self, config: CriticConfig, camera: Camera, max_steps: int, name: str, alive: Callable[[], None]
    ) -> None:
        self.config, self.camera, self.alive = config, camera.name, alive
        seen = CameraSpec(camera.name, camera.height, camera.width, orientation=camera.orientation)
        spec = LaneSpec(cameras=(seen,), frames=max_steps + 2, questions=max_steps + 2)
        assert config.run_id is not None, "bound to a sidecar by who made the pool"
        self.lane = Lane.attach(config.run_id, spec, timeout=config.verdict_timeout_s, name=name)
        self._task = ""
        self._slots: dict[int, FrameSlot] = {}
        self._questions = OpenQuestions(config.max_failures)
        self._values: dict[int, Values] = {}  # by the last step
        self._served = self.lane.served
        self._progress = time.monotonic()  # when the sidecar was seen to answer anybody, or there was nothing to answer
        self._looked = 0.0
        self.latencies_us: list[int] = []
        self.outages, self.blocked_s = 0, 0.0

    def begin(self, episode: int, instruction: str) -> None:
        """Starts an episode; frames drawn from here on are kept until :meth:`end`."""
        self._slots.clear()
        self._questions.clear()
        self._values, self._task = {}, instruction
        self.latencies_us, self.outages, self.blocked_s = [], 0, 0.0
        self.lane.begin_episode(episode=episode, task=instruction)

    def draw(self, env: Environment, step: int) -> int:
        """Renders the frame after ``step`` steps straight into the lane. Returns its place for ``LaneReader``."""
        slot = self._patiently(lambda timeout: self.lane.reserve(timeout=timeout))
        env.render(self.camera, slot[self.camera])
        self.lane.publish(slot, step=step)
        self._slots[step] = slot
        return slot.index

    def view(self, step: int) -> np.ndarray:
        """(H, W, 3) uint8, upright, read-only: a frame of this episode. No copy."""
        return self.lane.view(step, self.camera)

    def ask_done(self, step: int) -> None:
        """Asks about the frame drawn at ``step``; the answer comes by :meth:`poll` or :meth:`wait`."""
        self._ask(OpenQuestion(Kind.DONE, step, time.monotonic()))

    def ask_value(self, last: int, stride: int) -> None:
        """Asks for the value list from frame 0 to the one after ``last`` steps; it is in :meth:`value` once it came.

        Scored are the frames of every ``stride``-th step where those were drawn regularly, else all that were drawn.
        """
        every, scored = scored_frames(list(self._slots), last, stride)
        self._ask(OpenQuestion(Kind.VALUE, last, time.monotonic(), tuple(scored), every))

    def _ask(self, question: OpenQuestion) -> None:
        self._patiently(lambda timeout: self._put(question, timeout))

    def _put(self, question: OpenQuestion, timeout: float) -> None:
        """Puts a question to the sidecar, for the first time or again."""
        last = self._slots[question.step]
        if question.kind is Kind.DONE:
            ticket = self.lane.ask(Kind.DONE, last, timeout=timeout)
        else:
            first = self._slots[question.scored[0]]
            ticket = self.lane.ask(Kind.VALUE, first=first, last=last, stride=question.every, timeout=timeout)
        self._questions.asked(ticket, question, self.lane.served)

    @property
    def pending(self) -> bool:
        """Whether answers to :meth:`ask_done` are out."""
        return self._questions.any(Kind.DONE)

    @property
    def valuing(self) -> bool:
        """Whether a value list is out."""
        return self._questions.any(Kind.VALUE)

    def value(self, last: int) -> Values | None:
        """The value list up to step ``last``, None when it has not come."""
        return self._values.get(last)

    def poll(self) -> list[tuple[int, FrameVerdict]]:
        """Dones that are there, by step. Never waits; sees a restarted sidecar, and asks again what failed.

        Raises:
            SidecarLostError: for ``verdict_timeout_s`` the sidecar has answered nobody, a restart included.
            QuestionFailedError: one question fails again and again while others are answered.
        """
        dones = self._take(self.lane.poll())
        if not self._questions:
            return dones
        now = time.monotonic()
        for question in self._questions.due(now):
            try:
                self._put(question, 0.0)
            except (QuestionsFull, SidecarDied):
                self._questions.put_off(question, now + LOOK_S)
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._check_progress()
        return dones

    def wait(self) -> list[tuple[int, FrameVerdict]]:
        """Waits, for ``SLICE_S`` seconds at most, for an answer: the earliest frame's, else the value list. Then as
        :meth:`poll`.
        """
        ticket, left = self._questions.earliest, min(SLICE_S, self._questions.next_due(time.monotonic()))
        found: list[Verdict] = []
        try:
            if ticket is None:
                time.sleep(left)
            else:
                found = [self.lane.wait(ticket, timeout=left)]
        except VerdictTimeout:
            pass
        except SidecarDied:
            time.sleep(min(LOOK_S, left))
        self.alive()
        return [*self._take(found), *self.poll()]

    def end(self) -> None:
        """Takes back what is still in flight and gives the frames free."""
        self._questions.clear()
        self.lane.end_episode()

    def close(self) -> None:
        """Removes the lane."""
        self.lane.close()

    def _take(self, verdicts: list[Verdict]) -> list[tuple[int, FrameVerdict]]:
        """What the model replied; the rest is to be asked again."""
        dones: list[tuple[int, FrameVerdict]] = []
        for verdict in verdicts:
            question = self._questions.taken(verdict.ticket)
            if question is None:
                continue
            if not is_reply(verdict, len(question.scored)):
                self._failed(question, verdict)
                continue
            if question.kind is Kind.DONE:
                dones.append((question.step, FrameVerdict(verdict.valid, verdict.done, verdict.probability)))
            else:
                self._values[question.step] = read_values(verdict, list(question.scored))
            since = time.monotonic() - question.since if question.failures else 0.0
            self.latencies_us.append(max(verdict.latency_us, round(since * 1e6)))
        return dones

    def _failed(self, question: OpenQuestion, verdict: Verdict) -> None:
        self.outages += 1
        if self._questions.failed(question, self.lane.served, time.monotonic()):
            return
        raise QuestionFailedError(
            f"lane {self.lane.name!r}: the {question.kind.name} question about step {question.step} of task "
            f"{self._task!r} failed {question.failures} times ({verdict.status.name}) while others were answered "
            f"(critic.max_failures={self.config.max_failures}); the sidecar's log says why"
        )

    def _patiently(self, attempt: Callable[[float], T]) -> T:
        """Calls ``attempt(timeout)`` again and again, through a restart of the sidecar, while that gets on."""
        if not self._questions:
            self._progress = time.monotonic()
        started = time.monotonic()
        try:
            while True:
                try:
                    return attempt(SLICE_S)
                except (ReserveTimeout, QuestionsFull):
                    pass
                except SidecarDied:
                    time.sleep(LOOK_S)
                self.alive()
                self._check_progress()
        finally:
            self.blocked_s += time.monotonic() - started

    def _check_progress(self) -> None:
        now, alive = time.monotonic(), self.lane.sidecar_alive  # which follows it to a new control segment
        if self.lane.served != self._served:
            self._served, self._progress = self.lane.served, now
        limit, oldest = self.config.verdict_timeout_s, self._questions.oldest
        if now - self._progress > limit:
            why = "is too slow, or cannot ask its model" if alive else "died, and none took its place"
            raise SidecarLostError(
                f"no verdict within critic.verdict_timeout_s={limit:g} s: the sidecar of run {self.config.run_id!r} "
                f"{why}{self._who(oldest)}"
            )
        if oldest is not None and now - oldest.since > OVERDUE * limit:
            raise QuestionFailedError(
                f"no verdict within {OVERDUE} times critic.verdict_timeout_s={limit:g} s, while others are answered"
                f"{self._who(oldest)}"
            )

    def _who(self, question: OpenQuestion | None) -> str:
        if question is None:
            return ""
        tried = f", after {question.failures} failures" if question.failures else ""
        return (
            f" (lane {self.lane.name!r}, task {self._task!r}: the {question.kind.name} question about step "
            f"{question.step} is open{tried})"
        )


def is_reply(verdict: Verdict, scored: int) -> bool:
    """Whether the model replied, readably or not; all else is an outage and says nothing about the frame.

    Args:
        scored: frames that a value list was asked over, 0 for another question.

    Raises:
        CriticBridgeError: a value list of another length, or without a number at its end, is called right.
    """
    if verdict.status is Status.INVALID or not (verdict.valid and scored):
        return verdict.status in (Status.OK, Status.INVALID)
    if verdict.values is None or len(verdict.values) != scored or not np.isfinite(verdict.values[-1]):
        raise CriticBridgeError(f"the sidecar sent an impossible value list for {scored} frames: {verdict.values}")
    return True


def read_values(verdict: Verdict, scored: list[int]) -> Values:
    """The value list of a reply. ``probability`` of a VALUE is the share of its pairs that could be read: over the
    others the list holds its last value.
    """
    if not verdict.valid or verdict.values is None:
        return Values(None, scored)
    readable = 1.0 if np.isnan(verdict.probability) else verdict.probability
    return Values(np.asarray(verdict.values, np.float32), scored, round((1 - readable) * (len(scored) - 1)))


def scored_frames(drawn: list[int], last: int, stride: int) -> tuple[int, list[int]]:
    """The bridge counts frames, an episode counts steps: which of the frames drawn stand for ``stride`` steps.

    Returns:
        Take every n-th frame; and the steps of those frames, ``last`` always among them.
    """
    steps = [step for step in drawn if step <= last]
    wanted = value_steps(last, stride)
    for every in range(1, len(steps) + 1):
        if sorted({*steps[::every], last}) == wanted:
            return every, wanted
    return 1, steps
