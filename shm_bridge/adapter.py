"""The worker's side for people with an environment worker of their own: three calls, one lane, one camera.

    critic = CriticAdapter(run_id, max_steps=512)     # once, in the worker's process
    critic.reset(task, frame)                         # after env.reset()
    verdict = critic.done(frame)                      # after every env.step()

Each frame is copied once, into the lane; from there the sidecar reads it in place. A renderer that can write into a
buffer of its caller's saves that copy, too: with :class:`~shm_bridge.worker.lane.Lane` itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import numpy as np

from shm_bridge.errors import ConfigError, InvalidRequest, VerdictTimeout
from shm_bridge.spec import CameraSpec, Kind, LaneSpec, Status, UInt8Array, Verdict
from shm_bridge.worker.lane import Lane
from shm_bridge.worker.lane_state import FrameSlot

CAMERA = "camera"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # before a question is put again after an outage


class CriticAdapter:
    """Asks the sidecar of run ``run_id`` about the frames of one environment. Not thread-safe; a process's own.

    The lane is made at the first :meth:`reset`, when the frames' size is known.

    Args:
        max_steps: the longest episode, in environment steps.
        name: the lane's, for the inspector; by default it holds this process's number.
        timeout: seconds that any wait may take, a restart of the sidecar included.
    """

    def __init__(self, run_id: str, max_steps: int, name: str | None = None, timeout: float = 60.0) -> None:
        if max_steps < 1:
            raise ConfigError(f"max_steps={max_steps!r}; must be 1 or more")
        self.run_id, self.max_steps, self.name, self.timeout = run_id, max_steps, name, timeout
        self._lane: Lane | None = None
        self._episode = -1
        self._step = 0

    def reset(self, task: str, frame: UInt8Array) -> None:
        """A new episode begins with ``frame``, (H, W, 3) uint8, upright, of any strides.

        Raises:
            SidecarUnreachable, NoSpace, ConfigError: at the first call, when the lane is made.
        """
        lane = self._lane_for(frame)
        self._episode += 1
        self._step = 0
        lane.begin_episode(self._episode, task)
        self._show(lane, frame, 0)

    def done(self, frame: UInt8Array) -> Verdict:
        """Shows the frame after the next step and waits for the model's reply; an outage is asked again.

        ``done`` counts where ``valid``; a reply that could not be read (``Status.INVALID``) is never a number.

        Raises:
            VerdictTimeout, SidecarDied: no reply within ``timeout``.
            FramesFull: more than ``max_steps`` steps.
        """
        lane, first = self._begun(), self.ask(frame)
        return self._reply(first, lambda: lane.ask(Kind.DONE, self._step, timeout=self.timeout))

    def ask(self, frame: UInt8Array) -> int:
        """As :meth:`done`, without waiting: the simulator may step on. The answer comes by :meth:`answers`."""
        lane = self._begun()
        slot = self._show(lane, frame, self._step + 1)
        self._step += 1
        return lane.ask(Kind.DONE, slot, timeout=self.timeout)

    def answers(self) -> list[Verdict]:
        """Verdicts that have come on what was asked by :meth:`ask`, each with its ``step``. Never waits.

        One whose ``status`` is FAILED or EXPIRED is an outage and says nothing: ask again.
        """
        return self._begun().poll()

    def value(self, stride: int = 8) -> float | None:
        """What an episode is worth that never was done: the critic's last value, from 0 to 1.

        Asks for the value list over every ``stride``-th frame, the last always among them, and waits.

        Returns:
            None when the reply could not be read: its last pair, or most of them.

        Raises:
            VerdictTimeout, SidecarDied: no reply within ``timeout``; an outage is asked again until then.
        """
        lane = self._begun()
        if self._step == 0:
            raise InvalidRequest("value() before the first step of an episode")

        def ask() -> int:
            return lane.ask(Kind.VALUE, first=0, last=self._step, stride=stride, timeout=self.timeout)

        verdict = self._reply(ask(), ask)
        return min(1.0, max(0.0, verdict.value / 100)) if verdict.valid else None

    def _reply(self, ticket: int, again: Callable[[], int]) -> Verdict:
        """The verdict that holds a reply of the model; after an outage the question is put once more."""
        deadline, pause = time.monotonic() + self.timeout, FIRST_PAUSE_S
        while True:
            verdict = self._begun().wait(ticket, self.timeout)
            if verdict.status in (Status.OK, Status.INVALID):
                return verdict
            if time.monotonic() + pause > deadline:
                raise VerdictTimeout(f"no reply within {self.timeout:g} s; the last asking ended {verdict.status.name}")
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
            ticket = again()

    def close(self) -> None:
        """Removes the lane. Safe to call twice."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def _lane_for(self, frame: UInt8Array) -> Lane:
        if frame.ndim != 3 or frame.dtype != np.uint8:
            raise ConfigError(f"frame of shape {frame.shape} and type {frame.dtype}; must be (H, W, 3) uint8")
        if self._lane is None:
            camera = CameraSpec(CAMERA, *frame.shape)
            spec = LaneSpec(cameras=(camera,), frames=self.max_steps + 1, questions=self.max_steps + 1)
            self._lane = Lane.attach(self.run_id, spec, self.timeout, self.name, grace=self.timeout)
        return self._lane

    def _begun(self) -> Lane:
        if self._lane is None:
            raise InvalidRequest("reset() must come before anything else")
        return self._lane

    def _show(self, lane: Lane, frame: UInt8Array, step: int) -> FrameSlot:
        slot = lane.reserve(self.timeout)
        image = slot[CAMERA]
        if frame.shape != image.shape or frame.dtype != np.uint8:
            raise ConfigError(f"frame of shape {frame.shape} and type {frame.dtype}; must be uint8 of {image.shape}")
        image[...] = frame
        lane.publish(slot, step)
        return slot

    def __enter__(self) -> CriticAdapter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
