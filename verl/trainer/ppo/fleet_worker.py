"""One rollout worker as the driver sees it.

starting (it loads the policy) -> loading (learners send it newer weights, if there are any) -> settled -> playing
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import ray

from verl.episode import EpisodeRequest
from verl.errors import NoAnswerError
from verl.trainer.heartbeat import SILENT_S, Heartbeat
from verl.trainer.load_limits import LoadLimit


@dataclass(slots=True)
class FleetWorker:
    """``card``: the GPU that it is on, known once it has started. ``since``: begin of ``starting`` or ``call``."""

    index: int
    actor: Any
    heartbeat: Heartbeat
    starting: Any
    card: str | None = None
    running: dict[int, EpisodeRequest] = field(default_factory=dict)
    call: Any = None
    loading: list[Any] = field(default_factory=list)
    failures: int = 0
    since: float = field(default_factory=time.monotonic)

    def renew(self, actor: Any, heartbeat: Heartbeat) -> None:
        """Another actor takes its place; it has nothing to do yet."""
        self.actor, self.heartbeat = actor, heartbeat
        self.starting, self.card, self.since = actor.card.remote(), None, time.monotonic()
        self.running, self.call, self.loading = {}, None, []

    @property
    def settled(self) -> bool:
        """It has started and has the weights."""
        return self.starting is None and not self.loading

    @property
    def receiver(self) -> tuple[int, Any, str | None]:
        """For :meth:`verl.trainer.ppo.learners.Learners.hand_over`."""
        return self.index, self.actor, self.card

    def waits_for(self) -> list[Any]:
        """Calls that have not come back."""
        calls = [call for call in (self.starting, self.call) if call is not None]
        return calls + ray.wait(self.loading, num_returns=len(self.loading), timeout=0)[1] if self.loading else calls

    def look(self) -> None:
        """Raises NoAnswerError when it does not answer any more: it is stopped, say."""
        self.heartbeat.look()
        if (silent := self.heartbeat.silent_s) >= SILENT_S:
            raise NoAnswerError(f"has not answered for {silent:.0f} s ({self.heartbeat.place()})")

    def look_at_start(self, limit: LoadLimit) -> bool:
        """Whether it has started by now. Raises NoAnswerError when it should have, and RayActorError when it died."""
        if self.starting is None:
            return True
        if not ray.wait([self.starting], timeout=0)[0]:
            self.heartbeat.look()
            if time.monotonic() - self.since > limit.seconds:
                raise NoAnswerError(f"has not started within {limit.seconds:.0f} s: {limit}")
            return False
        self.card, self.starting = ray.get(self.starting), None
        return True
