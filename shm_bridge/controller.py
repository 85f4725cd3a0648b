"""The trainer's side: is the critic ready, and which phase shall it be in."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from shm_bridge.errors import BridgeClosed, PhaseTimeout, SegmentError, SidecarDied, SidecarUnreachable
from shm_bridge.liveness.attachment import connect
from shm_bridge.liveness.locks import SERVER
from shm_bridge.memory import segment
from shm_bridge.memory.control import ControlRole
from shm_bridge.memory.layout import ServerWord, TrainerWord
from shm_bridge.names import bell_name, control_name
from shm_bridge.spec import Phase
from shm_bridge.sync.ordering import MASK, fence
from shm_bridge.sync.semaphore import Semaphore

POLL_S = 0.005


class Controller:
    """One trainer a run. Phases take seconds, so waiting looks 200 times a second and needs no doorbell."""

    def __init__(self, run_id: str, timeout: float) -> None:
        self.run_id = run_id
        self._locks, self._control = connect(run_id, ControlRole.TRAINER, timeout)
        self._closed = False

    @classmethod
    def connect(cls, run_id: str, timeout: float = 10.0) -> Controller:
        """Waits up to ``timeout`` seconds for the run's sidecar. Raises ``SidecarUnreachable``, ``SegmentError``."""
        return cls(run_id, timeout)

    def _follow(self) -> None:
        """To the segment of a sidecar that had to make a new one."""
        if self._closed:
            raise BridgeClosed(f"the controller of run {self.run_id!r} was closed")
        if segment.inode(control_name(self.run_id)) == self._control.inode and self._locks.is_current():
            return
        try:
            locks, control = connect(self.run_id, ControlRole.TRAINER, timeout=0.0)
        except SidecarUnreachable:
            return
        self._control.close()
        self._locks.close()
        self._locks, self._control = locks, control

    @property
    def alive(self) -> bool:
        """Whether a sidecar's process holds the run's lock now, also one whose files somebody removed."""
        self._follow()
        return self._locks.holder(SERVER) is not None

    @property
    def ready(self) -> bool:
        return self.alive and self._control.ready

    def wait_ready(self, timeout: float) -> None:
        """Raises ``SidecarUnreachable`` when the sidecar is not ready within ``timeout`` seconds."""
        if not self._until(lambda: self.ready, timeout):
            state = "alive, but not ready" if self.alive else "dead"
            raise SidecarUnreachable(f"run_id={self.run_id!r}: the sidecar is {state} after {timeout:g} s")

    def request_phase(self, phase: Phase, timeout: float, grace: float = 10.0) -> None:
        """Returns when the sidecar has reached the phase.

        A sidecar that dies meanwhile has ``grace`` seconds to be restarted; the request is put to it again.

        Raises:
            PhaseTimeout, SidecarDied.
        """
        self._follow()
        seq = self._put(phase)
        dead_since: float | None = None

        def reached() -> bool:
            nonlocal seq, dead_since
            if self.alive:
                dead_since = None
                if self._control.requested != (seq, phase):  # a new control segment
                    seq = self._put(phase)
                return self._control.acknowledged == (seq, phase)
            dead_since = dead_since or time.monotonic()
            if time.monotonic() - dead_since > grace:
                raise SidecarDied(f"run_id={self.run_id!r}: the sidecar died on the way to phase {phase.name}")
            return False

        if not self._until(reached, timeout):
            raise PhaseTimeout(f"run_id={self.run_id!r}: phase {phase.name} was not reached within {timeout:g} s")

    def _put(self, phase: Phase) -> int:
        control = self._control
        seq = (control.requested[0] + 1) & MASK or 1
        control.trainer[TrainerWord.REQUEST_PHASE] = phase
        fence()
        control.trainer[TrainerWord.REQUEST_SEQ] = seq
        fence()
        if control.server[ServerWord.PARKED]:
            try:
                bell = Semaphore(bell_name(self.run_id, control.server[ServerWord.BELL]), create=False)
            except (SegmentError, FileNotFoundError):  # the sidecar looks by itself every 0.1 s
                return seq
            bell.post()
            bell.close()
        return seq

    def _until(self, ready: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not ready():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def status(self) -> dict[str, Any]:
        """What the sidecar says of itself."""
        alive = self.alive
        words = self._control.server
        _, phase = self._control.acknowledged
        return {
            "run_id": self.run_id,
            "alive": alive,
            "ready": alive and self._control.ready,
            "pid": self._locks.holder(SERVER) if alive else None,
            "epoch": self._control.epoch,
            "phase": Phase(phase).name if phase in (Phase.ROLLOUT, Phase.UPDATE) else None,
            "lanes": sum(1 for generation in self._control.generations if generation),
            "verdicts": words[ServerWord.VERDICTS],
            "questions": words[ServerWord.QUESTIONS],
            "invalid": words[ServerWord.INVALID],
            "failed": words[ServerWord.FAILED],
            "late": words[ServerWord.LATE],
            "reclaimed": words[ServerWord.RECLAIMED],
            "rejected": words[ServerWord.REJECTED],
            "metrics": self._control.metrics(),
        }

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._control.close()
            self._locks.close()

    def __enter__(self) -> Controller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
