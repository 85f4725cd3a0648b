"""An environment process's end of the conversation with the critic: its lane, its frames, its questions.

    draw (renderer writes the slot) -> publish -> ask DONE ... poll / wait -> verdicts by step
                                               -> ask VALUE (once, at the end) -> wait

When the sidecar dies, the bridge asks the pending questions again of the one that takes its place; here is decided how
long that is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from shm_bridge import CameraSpec, FrameSlot, Kind, Lane, LaneSpec, Orientation, SidecarDied, Verdict, VerdictTimeout
from verl.envs.base import Camera, Environment
from verl.envs.messages import BridgeConfig
from verl.errors import SidecarLostError
from verl.rewards import value_steps
from verl.termination import FrameVerdict

SLICE_S = 1.0  # longest silence towards the parent while waiting


class CriticLink:
    """One lane, held by the process for its life. Not thread-safe."""

    def __init__(
        self, config: BridgeConfig, cameras: tuple[Camera, ...], max_steps: int, name: str, alive: Callable[[], None]
    ) -> None:
        self.config, self.cameras, self.alive = config, cameras, alive
        specs = tuple(CameraSpec(c.name, c.height, c.width, orientation=Orientation(c.stored)) for c in cameras)
        spec = LaneSpec(cameras=specs, frames=max_steps + 2, questions=max_steps + 2)
        self.lane = Lane.attach(config.run_id, spec, timeout=config.timeout_s, name=name)
        self._slots: dict[int, FrameSlot] = {}
        self._pending: dict[int, int] = {}  # ticket -> step
        self.latencies_us: list[int] = []

    def begin(self, episode: int, instruction: str) -> None:
        self._slots.clear()
        self._pending.clear()
        self.latencies_us = []
        self.lane.begin_episode(episode=episode, task=instruction)

    def draw(self, env: Environment, step: int, cameras: list[str]) -> int:
        """Renders ``cameras`` straight into the lane. Returns the slot's index."""
        slot = self.lane.reserve(timeout=self.config.timeout_s)
        for camera in cameras:
            env.render(camera, slot[camera])
        self.lane.publish(slot, step=step)
        self._slots[step] = slot
        index: int = slot.index
        return index

    def view(self, step: int, camera: str) -> np.ndarray:
        return self.lane.view(step, camera)

    def ask_done(self, step: int) -> None:
        self._pending[self.lane.ask(Kind.DONE, self._slots[step])] = step

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def poll(self) -> list[tuple[int, FrameVerdict]]:
        """Answers that are there, by step. Never waits."""
        return [answer for verdict in self.lane.poll() if (answer := self._take(verdict)) is not None]

    def wait(self) -> list[tuple[int, FrameVerdict]]:
        """Answers, at least that of the earliest frame in flight.

        Raises:
            SidecarLostError: none within ``timeout_s``, a restart of the sidecar included.
        """
        ticket = min(self._pending, key=self._pending.__getitem__)
        first = self._take(self._wait_for(ticket))
        return [*([first] if first else []), *self.poll()]

    def ask_value(self, last: int, stride: int) -> tuple[np.ndarray | None, list[int]]:
        """The value list from frame 0 to the one after ``last`` steps, waited for.

        Returns:
            float32 percent, one a scored frame, or None when the answer has no meaning; and the frames' steps: every
            ``stride``-th step where those were drawn regularly, else all that were drawn.
        """
        every, scored = scored_frames(list(self._slots), last, stride)
        ticket = self.lane.ask(Kind.VALUE, first=self._slots[scored[0]], last=self._slots[last], stride=every)
        verdict = self._wait_for(ticket)
        self.latencies_us.append(verdict.latency_us)
        if not verdict.valid or verdict.values is None or len(verdict.values) != len(scored):
            return None, scored
        return np.asarray(verdict.values, np.float32), scored

    def end(self) -> None:
        """Takes back what is still in flight and gives the frames free."""
        self.lane.cancel()
        self.lane.end_episode()

    def close(self) -> None:
        self.lane.close()

    def _take(self, verdict: Verdict) -> tuple[int, FrameVerdict] | None:
        step = self._pending.pop(verdict.ticket, None)
        if step is None:
            return None
        self.latencies_us.append(verdict.latency_us)
        return step, FrameVerdict(verdict.valid, verdict.done, verdict.probability)

    def _wait_for(self, ticket: int) -> Verdict:
        deadline = time.monotonic() + self.config.timeout_s
        why = "is too slow"
        while (left := deadline - time.monotonic()) > 0:
            self.alive()
            try:
                return self.lane.wait(ticket, timeout=min(SLICE_S, left))
            except VerdictTimeout:
                why = "is too slow"
            except SidecarDied:
                why = "died, and none took its place"
                time.sleep(min(0.1, left))  # its supervisor starts another one
        raise SidecarLostError(
            f"no verdict within critic.verdict_timeout_s={self.config.timeout_s:g} s: the sidecar of run "
            f"{self.config.run_id!r} {why}"
        )


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
