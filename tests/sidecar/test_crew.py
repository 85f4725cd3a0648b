"""Where an episode's questions go, and what follows when a replica is lost. Time and replicas are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from questions import question

from shm_bridge import Kind
from sidecar.config import HealthConfig
from sidecar.crew import Crew


@dataclass
class Seat:
    """What a crew looks at of a replica."""

    index: int
    up: bool = True
    device: str = "cpu"
    busy_since: float | None = None
    killed: int = 0
    dead: bool = False

    def ended(self) -> bool:
        return self.dead

    def kill(self) -> None:
        self.killed += 1

    def memory_bytes(self) -> dict[str, int]:
        return {"device": 2 << 20}


class Engine:
    """Replicas that load, or do not, as they are told."""

    def __init__(self, count: int) -> None:
        self.replicas = [Seat(i) for i in range(count)]
        self.loads = True
        self.asked: list[int] = []

    def revive(self, index: int) -> bool:
        self.asked.append(index)
        self.replicas[index].up = self.loads
        return self.loads


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(count: int, **health: Any) -> tuple[Crew, Any, Clock]:
    engine: Any = Engine(count)
    clock = Clock()
    return Crew(engine, HealthConfig(**health), clock), engine, clock


def of(lane: int, episode: int = 1) -> Any:
    return question(Kind.DONE, [0], lane=lane, episode=episode)


def test_episodes_go_to_the_replicas_in_turn_and_stay() -> None:
    """All questions of an episode have one home, whatever comes between."""
    crew, _, _ = make(3)
    assert [crew.home(of(lane)) for lane in range(6)] == [0, 1, 2, 0, 1, 2]
    assert [crew.home(of(lane)) for lane in (5, 0, 2)] == [2, 0, 2]
    assert crew.home(of(0, episode=2)) == 0 and crew.home(of(1, episode=2)) == 1


def test_a_lost_replicas_episodes_go_to_all_its_neighbours_and_come_back() -> None:
    """Not all to one; and home again when it is up."""
    crew, engine, _ = make(3)
    lanes = [of(lane) for lane in range(12)]
    homes = [crew.home(one) for one in lanes]
    engine.replicas[1].up = False
    moved = [crew.home(one) for one, home in zip(lanes, homes) if home == 1]
    assert set(moved) == {0, 2}
    assert [crew.home(one) for one, home in zip(lanes, homes) if home != 1] == [home for home in homes if home != 1]
    engine.replicas[1].up = True
    assert [crew.home(one) for one in lanes] == homes


def test_a_loss_is_survived_while_another_is_up() -> None:
    """The last one's is not."""
    crew, engine, _ = make(2)
    assert crew.lost(0) and engine.replicas[0].killed == 1
    assert not crew.lost(1)
    assert crew.ups() == []


def test_one_that_died_while_idle_is_noticed() -> None:
    crew, engine, _ = make(2)
    engine.replicas[1].dead = True
    crew.notice(0)
    crew.notice(1)
    assert crew.ups() == [0]


def test_restarts_wait_longer_each_time() -> None:
    """The pause doubles while it dies again; after a long life it begins anew."""
    crew, engine, clock = make(2, backoff_s=1.0, backoff_max_s=3.0, crash_window_s=60.0)
    clock.now = 100.0
    for at in (101.0, 103.0, 106.0, 109.0):
        crew.lost(0)
        clock.now = at
        crew.revive(0)
        assert engine.replicas[0].up and len(engine.asked) == 1
        engine.asked.clear()
    clock.now = 1000.0
    crew.lost(0)
    clock.now = 1001.0
    crew.revive(0)
    assert engine.asked == [0]
    assert crew.numbers()[0] == {"up": 1, "restarts": 5, "queries": 0, "busy_s": 0, "device_mb": 2}


def test_one_that_cannot_load_is_tried_again_later() -> None:
    crew, engine, clock = make(2, backoff_s=1.0, backoff_max_s=8.0)
    engine.loads = False
    clock.now = 500.0
    crew.lost(0)
    clock.now = 501.0
    crew.revive(0)
    assert engine.asked == [0] and crew.ups() == [1]
    engine.loads = True
    clock.now = 503.0
    crew.revive(0)
    assert engine.asked == [0, 0] and crew.ups() == [0, 1]


def test_a_wedged_replica_is_ended_where_another_is_left() -> None:
    """What all of them are wedged in ends the service instead."""
    crew, engine, _ = make(2)
    assert not crew.end_wedged(5)
    engine.replicas[0].busy_since = 0.0  # since the machine's start
    assert crew.end_wedged(5) and engine.replicas[0].killed == 1 and crew.ups() == [1]
    engine.replicas[1].busy_since = 0.0
    assert not crew.end_wedged(5)
