"""Which replica answers what, and what happens to one that dies: for a service whose engine is several replicas.

    a new episode --turn by turn--> its home replica: it has seen the episode's frames, so that value lists cost less
    a free replica --takes--> batches of its own home; another's where that one is busy, or the question has waited
    a lost replica: its batch and its episodes go to neighbours until its slot has started it again

Only when none is left the service ends, as it does with an engine of one process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from shm_bridge import Question
from sidecar.config import HealthConfig
from sidecar.engines.replicas import ReplicaEngine

logger = logging.getLogger(__name__)
_LOOK_S = 0.25


@dataclass(slots=True)
class _Record:
    """How a replica has done so far; ``pause_s``, ``again_at``, ``since``: of its next and its last start."""

    pause_s: float
    again_at: float = 0.0
    since: float = 0.0
    restarts: int = 0
    queries: int = 0
    busy_s: float = 0.0


class Crew:
    """The replicas of ``engine``; ``clock`` gives seconds. :meth:`home` is called under the service's lock."""

    def __init__(
        self, engine: ReplicaEngine, health: HealthConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.engine, self.health, self._clock = engine, health, clock
        self._records = [_Record(health.backoff_s) for _ in engine.replicas]
        self._homes: dict[int, tuple[int, int, int]] = {}  # by lane: its generation, episode and home
        self._turn = 0

    # -- homes -------------------------------------------------------------------------------------------------------

    def home(self, question: Question) -> int:
        """The replica that the question's episode belongs to, or while that one is lost a neighbour."""
        lane, generation, episode = question.lane, question.generation, question.episode
        held = self._homes.get(lane)
        if held is None or held[:2] != (generation, episode):
            held = self._homes[lane] = (generation, episode, self._turn)
            self._turn = (self._turn + 1) % len(self.engine.replicas)
        if self.up(held[2]) or not (ups := self.ups()):
            return held[2]
        return ups[lane % len(ups)]

    # -- who lives ---------------------------------------------------------------------------------------------------

    def up(self, slot: int) -> bool:
        """Whether the replica is there to be asked. It may have died a moment ago."""
        return self.engine.replicas[slot].up

    def ups(self) -> list[int]:
        """Those that are."""
        return [one.index for one in self.engine.replicas if one.up]

    def notice(self, slot: int) -> None:
        """One that died while nobody asked it is lost, too."""
        one = self.engine.replicas[slot]
        if one.up and one.ended():
            logger.error("replica %d on %s ended while it was idle", slot, one.device)
            self.lost(slot)

    def lost(self, slot: int) -> bool:
        """A replica did not answer: its process is ended. Whether another is there to take its batch."""
        one, record, now = self.engine.replicas[slot], self._records[slot], self._clock()
        one.up = False
        one.kill()
        if now - record.since > self.health.crash_window_s:
            record.pause_s = self.health.backoff_s
        record.again_at = now + record.pause_s
        return bool(self.ups())

    def end_wedged(self, limit_s: float) -> bool:
        """Kills those that have been at a call for longer; False when there is none, or no other would be left."""
        now = time.monotonic()
        wedged = [r for r in self.engine.replicas if r.busy_since is not None and now - r.busy_since > limit_s]
        if not wedged or not set(self.ups()) - {one.index for one in wedged}:
            return False
        for one in wedged:
            logger.error("replica %d on %s has not come back for %g s: it is killed", one.index, one.device, limit_s)
            one.up = False
            one.kill()
        return True

    def revive(self, slot: int) -> None:
        """Starts a lost replica again when its pause is over, and waits for it; else waits a moment."""
        record = self._records[slot]
        left = record.again_at - self._clock()
        if left > 0:
            time.sleep(min(left, _LOOK_S))
            return
        record.pause_s = min(self.health.backoff_max_s, 2 * record.pause_s)
        if self.engine.revive(slot):
            record.restarts, record.since = record.restarts + 1, self._clock()
            device = self.engine.replicas[slot].device
            logger.warning("replica %d on %s is back (restart %d)", slot, device, record.restarts)
        else:
            record.again_at = self._clock() + record.pause_s

    # -- numbers -----------------------------------------------------------------------------------------------------

    def answered(self, slot: int, size: int, seconds: float) -> None:
        """A batch of ``size`` came back after ``seconds``."""
        record = self._records[slot]
        record.queries, record.busy_s = record.queries + size, record.busy_s + seconds

    def numbers(self) -> list[dict[str, float]]:
        """Of each replica: whether it is up; its restarts, queries and busy seconds so far; MB on its device."""
        return [
            {
                "up": float(one.up),
                "restarts": float(record.restarts),
                "queries": float(record.queries),
                "busy_s": record.busy_s,
                "device_mb": one.memory_bytes().get("device", 0) / 2**20,
            }
            for one, record in zip(self.engine.replicas, self._records)
        ]
