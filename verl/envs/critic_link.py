"""An environment process's end of the conversation with the critic: its lane, its frames, its questions.

    draw (renderer writes the slot) -> publish -> ask DONE ... poll / wait -> verdicts, each with its step
                                               -> ask VALUE (at the end)       -> value list
                              an outage (FAILED, EXPIRED) --> the same question again, after a pause

Only what the model said leaves this file: a readable reply or an unreadable one. When the sidecar dies, the bridge asks
the pending questions again of the one that takes its place; here is decided how long that is waited for. Waiting ends
by the sidecar's progress, not by ours: as long as it answers anybody, a long queue is no outage.
"""

from __future__ import annotations

import math
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
    OpenQuestion,
    QuestionsFull,
    ReserveTimeout,
    SidecarDied,
    Status,
    Verdict,
    VerdictTimeout,
)
from shm_bridge.rules import value_steps
from verl.critic_config import CriticConfig
from verl.envs.base import Camera, Environment
from verl.envs.episode_scoring import Values
from verl.envs.failed_questions import FailedQuestions
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
        self._asked: dict[int, tuple[float, int]] = {}  # by open ticket: when, and what the sidecar had served by then
        self._failed = FailedQuestions()
        self._lists: dict[int, tuple[int, list[int]]] = {}  # asked for, by the last step: what scored_frames() says
        self._values: dict[int, Values] = {}  # that came, by the last step
        self._served = self.lane.served
        self._progress = time.monotonic()  # when the sidecar was seen to answer anybody, or there was nothing to answer
        self._looked = 0.0
        self.latencies_us: list[int] = []
        self.outages, self.blocked_s = 0, 0.0

    def begin(self, episode: int, instruction: str) -> None:
        """Starts an episode; frames drawn from here on are kept until :meth:`end`."""
        instruction = dict(self.config.instructions).get(instruction, instruction)
        self._slots.clear()
        self._asked.clear()
        self._failed.clear()
        self._lists, self._values, self._task = {}, {}, instruction
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
        self._patiently(lambda timeout: self._ask(Kind.DONE, step, timeout))

    def ask_value(self, last: int, stride: int) -> None:
        """Asks for the value list from frame 0 to the one after ``last`` steps; it is in :meth:`value` once it came.

        Scored are the frames of every ``stride``-th step where those were drawn regularly, else all that were drawn.
        """
        self._lists[last] = scored_frames(list(self._slots), last, stride)
        self._patiently(lambda timeout: self._ask(Kind.VALUE, last, timeout))

    def _ask(self, kind: Kind, step: int, timeout: float) -> None:
        """Puts a question to the sidecar, for the first time or again."""
        last = self._slots[step]
        if kind is Kind.DONE:
            ticket = self.lane.ask(Kind.DONE, last, timeout=timeout)
        else:
            every, scored = self._lists[step]
            ticket = self.lane.ask(Kind.VALUE, first=self._slots[scored[0]], last=last, stride=every, timeout=timeout)
        self._asked[ticket] = time.monotonic(), self.lane.served

    def value(self, last: int) -> Values | None:
        """The value list up to step ``last``, None when it has not come."""
        return self._values.get(last)

    def poll(self) -> list[Verdict]:
        """Replies about frames that are there. Never waits; sees a restarted sidecar, and asks again what failed.

        Raises:
            SidecarLostError: for ``verdict_timeout_s`` the sidecar has answered nobody, a restart included.
            QuestionFailedError: one question fails again and again while others are answered.
        """
        dones = self._take(self.lane.poll())
        if not (self._asked or self._failed):
            return dones
        now = time.monotonic()
        if self._failed:
            self._ask_again(now)
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._check_progress()
        return dones

    def _ask_again(self, now: float) -> None:
        for question in self._failed.due(now):
            try:
                self._ask(question.kind, question.step, 0.0)
                question.due = math.inf
            except (QuestionsFull, SidecarDied):
                question.due = now + LOOK_S

    def wait(self) -> list[Verdict]:
        """Waits, for ``SLICE_S`` seconds at most, for an answer: the earliest frame's, else the value list. Then as
        :meth:`poll`.
        """
        asked = self.lane.open_questions
        found = self._wait_for_one_of(asked) if len(asked) == len(self._asked) else []  # else one is there
        self.alive()
        return [*self._take(found), *self.poll()]

    def _wait_for_one_of(self, asked: list[OpenQuestion]) -> list[Verdict]:
        left = min(SLICE_S, self._failed.next_due(time.monotonic())) if self._failed else SLICE_S
        try:
            if asked:
                earliest = min(asked, key=lambda one: (one.kind is not Kind.DONE, one.step))
                return [self.lane.wait(earliest.ticket, timeout=left)]
            time.sleep(left)
        except VerdictTimeout:
            pass
        except SidecarDied:
            time.sleep(min(LOOK_S, left))
        return []

    def end(self) -> None:
        """Takes back what is still in flight and gives the frames free."""
        self._asked.clear()
        self._failed.clear()
        self.lane.end_episode()

    def close(self) -> None:
        """Removes the lane."""
        self.lane.close()

    def _take(self, verdicts: list[Verdict]) -> list[Verdict]:
        """What the model replied about frames; its value lists are kept, and the rest is to be asked again."""
        dones: list[Verdict] = []
        for verdict in verdicts:
            kind, step = verdict.kind, verdict.step
            asked, served = self._asked.pop(verdict.ticket)
            scored = self._lists[step][1] if kind is Kind.VALUE else []
            if not is_reply(verdict, len(scored)):
                self._outage(verdict, asked, self.lane.served != served)
                continue
            if kind is Kind.DONE:
                dones.append(verdict)
            else:
                self._values[step] = read_values(verdict, scored)
            failed = self._failed.pop((kind, step), None)
            since = time.monotonic() - failed.since if failed else 0.0
            self.latencies_us.append(max(verdict.latency_us, round(since * 1e6)))
        return dones

    def _outage(self, verdict: Verdict, asked: float, others_answered: bool) -> None:
        self.outages += 1
        kind, step = verdict.kind, verdict.step
        question = self._failed.failed(kind, step, asked, others_answered, time.monotonic())
        if question.alone < self.config.max_failures:
            return
        raise QuestionFailedError(
            f"lane {self.lane.name!r}: the {kind.name} question about step {step} of task "
            f"{self._task!r} failed {question.failures} times ({verdict.status.name}) while others were answered "
            f"(critic.max_failures={self.config.max_failures}); the sidecar's log says why"
        )

    def _patiently(self, attempt: Callable[[float], T]) -> T:
        """Calls ``attempt(timeout)`` again and again, through a restart of the sidecar, while that gets on."""
        if not (self._asked or self._failed):
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
        limit, (since, oldest) = self.config.verdict_timeout_s, self._oldest()
        if now - self._progress > limit:
            why = "is too slow, or cannot ask its model" if alive else "died, and none took its place"
            raise SidecarLostError(
                f"no verdict within critic.verdict_timeout_s={limit:g} s (with the time that loading its model takes): "
                f"the sidecar of run {self.config.run_id!r} {why}{oldest}"
            )
        if now - since > OVERDUE * limit:
            raise QuestionFailedError(
                f"no verdict within {OVERDUE} times critic.verdict_timeout_s={limit:g} s, while others are answered"
                f"{oldest}"
            )

    def _oldest(self) -> tuple[float, str]:
        """When the open question was asked that was first asked the longest time ago, and which it is."""
        asked = [(one.asked_ns * 1e-9, one.kind, one.step) for one in self.lane.open_questions]
        asked += [(one.since, one.kind, one.step) for one in self._failed.values()]
        if not asked:
            return math.inf, ""
        since, kind, step = min(asked)
        failed = self._failed.get((kind, step))
        tried = f", after {failed.failures} failures" if failed else ""
        question = f"the {kind.name} question about step {step} is open{tried}"
        return since, f" (lane {self.lane.name!r}, task {self._task!r}: {question})"


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
