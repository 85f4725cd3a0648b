"""Who does not answer is named and given up; who answers is left alone. Time and answers are injected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from verl.errors import NoAnswerError
from verl.trainer import watchdog
from verl.trainer.heartbeat import EVERY_S, NAMED_S, SILENT_S, STILL_S, Heartbeat, LearnerWatch
from verl.workers.work import Report, Work, at_work


class FakeActor:
    """Answers with what ``work`` says, unless it is ``stopped``."""

    def __init__(self) -> None:
        self.work, self.stopped = Work(), False
        self.report = SimpleNamespace(options=lambda **groups: SimpleNamespace(remote=lambda: self))


@pytest.fixture
def world(monkeypatch):
    """Time moves only by :meth:`ray.wait`; a call is its actor, answered unless that one is stopped."""
    state = SimpleNamespace(now=0.0, on_second=lambda: None, result=None)

    def wait(calls, num_returns=1, timeout=None):
        if timeout:
            state.now += timeout
            state.on_second()
        ready = [c for c in calls if (not c.stopped if isinstance(c, FakeActor) else state.result is not None)]
        return ready, [c for c in calls if c not in ready]

    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.get", lambda call: call.work.report() if isinstance(call, FakeActor) else state.result)
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: state.now)
    monkeypatch.setattr(watchdog.OwnTime.__init__, "__defaults__", (lambda: state.now,))
    return state


def watch(actors: list[FakeActor], stall_timeout_s: float = 600.0) -> tuple[LearnerWatch, list[str]]:
    said: list[str] = []
    made = LearnerWatch(actors, said.append, stall_timeout_s)
    made.known = [actor.work.report() for actor in actors]
    return made, said


def test_a_stopped_learner_is_named_and_ends_the_wait_within_two_minutes(world):
    """The message has the rank, the process and where it stood; the others, which wait for it, are not blamed."""
    actors = [FakeActor() for _ in range(3)]
    for actor in actors:
        actor.work.begin("update")
        actor.work.step()
    actors[1].stopped = True
    made, said = watch(actors)
    with pytest.raises(NoAnswerError, match=r"the update: learner 1 \(process \d+ on .*, 1 steps into its update\)"):
        made.wait(["call"], "the update")
    assert SILENT_S < 120 and NAMED_S < SILENT_S and world.now <= SILENT_S + EVERY_S + 2
    assert len(said) == 1 and "learner 1" in said[0]


def test_a_slow_update_is_left_alone(world):
    """Hours long, micro-batches of minutes each: longer than a stopped one would be waited for."""
    actor = FakeActor()
    actor.work.begin("update")
    made, said = watch([actor])

    def on_second():
        if world.now % 400 == 0:
            actor.work.step()
        if world.now >= 20_000:
            world.result = "metrics"

    world.on_second = on_second
    assert made.wait(["call"], "the update") == ["metrics"]
    assert said and all("though they answer" in text or "goes on" in text for text in said)


def test_a_learner_that_answers_but_makes_no_step_is_named_in_two_minutes_and_ended_by_the_configured_bound(world):
    actor = FakeActor()
    actor.work.begin("update")
    made, said = watch([actor], stall_timeout_s=600)
    with pytest.raises(NoAnswerError, match="stall_timeout_s=600"):
        made.wait(["call"], "the update")
    assert STILL_S < 120 and 600 <= world.now < 610 and len(said) == 1


def test_a_load_may_take_as_long_as_its_size_does(world):
    """90 GB of a checkpoint make no step for an hour."""
    actor = FakeActor()
    actor.work.begin("load")
    made, _ = watch([actor], stall_timeout_s=600)
    world.on_second = lambda: setattr(world, "result", "loaded" if world.now >= 3500 else None)
    assert made.wait(["call"], "the load", at_least_s=3600) == ["loaded"]


def test_one_that_answers_again_is_said_to_go_on(world):
    actor = FakeActor()
    made, said = watch([actor])

    def on_second():
        actor.stopped = 5 < world.now < 60
        actor.work.step()
        if world.now >= 100:
            world.result = "metrics"

    world.on_second = on_second
    made.wait(["call"], "the update")
    assert len(said) == 2 and "has not answered" in said[0] and "goes on" in said[1]


def test_the_start_of_an_actor_is_no_silence(world):
    """A policy of 7 B takes minutes to load, in which nothing can be answered."""
    actor = FakeActor()
    actor.stopped = True
    beat = Heartbeat(actor, lambda: world.now)
    for _ in range(600):
        world.now += 1
        beat.look()
    assert beat.silent_s == 0
    actor.stopped = False
    world.now += EVERY_S
    beat.look()
    actor.stopped = True
    for _ in range(30):
        world.now += 1
        beat.look()
    assert beat.silent_s > 25


def test_work_names_the_call_and_counts_its_steps():
    """Steps of one call start from zero; whatever happens counts as a move."""

    class Worker:
        def __init__(self) -> None:
            self.work, self.seen = Work(), []

        @at_work
        def update(self, steps: int) -> int:
            for _ in range(steps):
                self.work.step()
                self.seen.append(self.work.report())
            return steps

    worker = Worker()
    idle = worker.work.report()
    assert worker.update(3) == worker.update(3) == 3
    assert [(r.call, r.steps) for r in worker.seen] == [("update", 1), ("update", 2), ("update", 3)] * 2
    assert isinstance(idle, Report) and idle.call is None and worker.work.report().call is None
    moves = [idle.moves, *(r.moves for r in worker.seen), worker.work.report().moves]
    assert moves == sorted(set(moves))
