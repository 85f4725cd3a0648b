"""An environment process's end of the conversation with the critic: its lane, its frames, its questions.

    draw (renderer writes the slot) -> publish -> ask DONE ... poll / wait -> verdicts by step
                                               -> ask VALUE (at the end)       -> value list

When the sidecar dies, the bridge asks the pending questions again of the one that takes its place; here is decided how
long that is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from shm_bridge import (
    CameraSpec,
    FrameSlot,
    Kind,
    Lane,
    LaneSpec,
    Orientation,
    QuestionsFull,
    ReserveTimeout,
    SidecarDied,
    Verdict,
    VerdictTimeout,
)
from verl.envs.base import Camera, Environment
from verl.envs.judgement import Values
from verl.envs.messages import BridgeConfig
from verl.errors import SidecarLostError
from verl.rewards import value_steps
from verl.termination import FrameVerdict

SLICE_S = 1.0  # longest silence towards the parent while waiting
RESTART_LOOK_S = 0.1  # between looks for a new sidecar

T = TypeVar("T")


class CriticLink:
    """One lane with one camera, held by the process for its life. Not thread-safe."""

    def __init__(
        self, config: BridgeConfig, camera: Camera, max_steps: int, name: str, alive: Callable[[], None]
    ) -> None:
        self.config, self.camera, self.alive = config, camera.name, alive
        seen = CameraSpec(camera.name, camera.height, camera.width, orientation=Orientation(camera.stored))
        spec = LaneSpec(cameras=(seen,), frames=max_steps + 2, questions=max_steps + 2)
        self.lane = Lane.attach(config.run_id, spec, timeout=config.timeout_s, name=name)
        self._slots: dict[int, FrameSlot] = {}
        self._pending: dict[int, int] = {}  # ticket -> step
        self._value: _ValueQuestion | None = None
        self._values: dict[int, Values] = {}  # by the last step
        self._heard = 0.0  # when an answer came last, or the first question in flight was asked
        self._looked = 0.0
        self.latencies_us: list[int] = []

    def begin(self, episode: int, instruction: str) -> None:
        """Starts an episode; frames drawn from here on are kept until :meth:`end`."""
        self._slots.clear()
        self._pending.clear()
        self._value, self._values = None, {}
        self.latencies_us = []
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
        slot = self._slots[step]
        self._asking()
        self._pending[self._patiently(lambda timeout: self.lane.ask(Kind.DONE, slot, timeout=timeout))] = step

    def ask_value(self, last: int, stride: int) -> None:
        """Asks for the value list from frame 0 to the one after ``last`` steps; it is in :meth:`value` once it came.

        Scored are the frames of every ``stride``-th step where those were drawn regularly, else all that were drawn.
        """
        every, scored = scored_frames(list(self._slots), last, stride)
        first_slot, last_slot = self._slots[scored[0]], self._slots[last]
        self._asking()
        ticket = self._patiently(
            lambda timeout: self.lane.ask(Kind.VALUE, first=first_slot, last=last_slot, stride=every, timeout=timeout)
        )
        self._value = _ValueQuestion(ticket, last, scored)

    @property
    def pending(self) -> bool:
        """Whether answers to :meth:`ask_done` are out."""
        return bool(self._pending)

    @property
    def valuing(self) -> bool:
        """Whether a value list is out."""
        return self._value is not None

    def value(self, last: int) -> Values | None:
        """The value list up to step ``last``, None when it has not come."""
        return self._values.get(last)

    def poll(self) -> list[tuple[int, FrameVerdict]]:
        """Dones that are there, by step. Never waits; sees a restarted sidecar.

        Raises:
            SidecarLostError: nothing has come for ``timeout_s``, a restart of the sidecar included.
        """
        dones = self._take(self.lane.poll())
        if (self._pending or self._value) and (now := time.monotonic()) - self._looked >= RESTART_LOOK_S:
            self._looked = now
            self.lane.sidecar_alive  # noqa: B018 - follows it to a new control segment
            if now - self._heard > self.config.timeout_s:
                raise self._lost()
        return dones

    def wait(self) -> list[tuple[int, FrameVerdict]]:
        """Dones, at least that of the earliest frame in flight; with none in flight, the value list's coming.

        Raises:
            SidecarLostError: none within ``timeout_s``, a restart of the sidecar included.
        """
        if self._pending:
            ticket = min(self._pending, key=self._pending.__getitem__)
        elif self._value is not None:
            ticket = self._value.ticket
        else:
            return []
        first = self._patiently(lambda timeout: self.lane.wait(ticket, timeout=timeout))
        return self._take([first, *self.lane.poll()])

    def end(self) -> None:
        """Takes back what is still in flight and gives the frames free."""
        self.lane.end_episode()

    def close(self) -> None:
        """Removes the lane."""
        self.lane.close()

    def _asking(self) -> None:
        if not self._pending and self._value is None:
            self._heard = time.monotonic()

    def _take(self, verdicts: list[Verdict]) -> list[tuple[int, FrameVerdict]]:
        dones: list[tuple[int, FrameVerdict]] = []
        for verdict in verdicts:
            step = self._pending.pop(verdict.ticket, None)
            if step is not None:
                dones.append((step, FrameVerdict(verdict.valid, verdict.done, verdict.probability)))
            elif self._value is not None and verdict.ticket == self._value.ticket:
                self._values[self._value.last] = _read_values(verdict, self._value.scored)
                self._value = None
            else:
                continue
            self.latencies_us.append(verdict.latency_us)
            self._heard = time.monotonic()
        return dones

    def _patiently(self, attempt: Callable[[float], T]) -> T:
        """Calls ``attempt(timeout)`` again and again, through a restart of the sidecar, for ``timeout_s`` seconds."""
        deadline = time.monotonic() + self.config.timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                return attempt(min(SLICE_S, left))
            except (VerdictTimeout, ReserveTimeout, QuestionsFull):
                pass
            except SidecarDied:
                time.sleep(min(RESTART_LOOK_S, left))
            self.alive()
        raise self._lost()

    def _lost(self) -> SidecarLostError:
        why = "is too slow" if self.lane.sidecar_alive else "died, and none took its place"
        return SidecarLostError(
            f"no verdict within critic.verdict_timeout_s={self.config.timeout_s:g} s: the sidecar of run "
            f"{self.config.run_id!r} {why}"
        )


class _ValueQuestion(NamedTuple):
    ticket: int
    last: int
    scored: list[int]


def _read_values(verdict: Verdict, scored: list[int]) -> Values:
    if not verdict.valid or verdict.values is None or len(verdict.values) != len(scored):
        return Values(None, scored)
    return Values(np.asarray(verdict.values, np.float32), scored)


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
