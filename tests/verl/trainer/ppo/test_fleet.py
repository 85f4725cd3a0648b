"""The fleet of rollout workers: every request is run to its end whoever dies. Actors are stand-ins, Ray is not run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray.exceptions import ActorUnavailableError, ObjectLostError

from verl.episode import EpisodeLost, EpisodeRequest
from verl.errors import RunFailedError
from verl.trainer.load_limits import NOTHING_TO_LOAD, LoadLimit
from verl.trainer.ppo.fleet import MOST_FAILURES, Fleet
from verl.workers.advance import Advance
from verl.workers.work import Report

DEAD = ActorUnavailableError("its node does not answer", None)
LOST = ObjectLostError("1" * 56, "driver", "the node with the report is gone")


REPORT = Report("here", 1, None, 0, 0)


class FakeActor:
    """Answers each ``advance`` with the next of ``script``: an error, ``lost`` or ``dropped`` (all), or ``well``."""

    def __init__(self, script: list) -> None:
        self.script = script
        self.advance = SimpleNamespace(remote=self._advance)
        self.card = SimpleNamespace(remote=lambda: "started")
        self.report = SimpleNamespace(options=lambda **groups: SimpleNamespace(remote=lambda: REPORT))

    def _advance(self, requests: list[EpisodeRequest], seconds: float):
        turn = self.script.pop(0) if self.script else "well"
        if isinstance(turn, Exception):
            return turn
        if turn in ("lost", "dropped"):
            reason = "the simulator died" if turn == "lost" else "unreadable verdict"
            return Advance(lost=[EpisodeLost(r, reason, turn == "dropped") for r in requests])
        return Advance(episodes=[SimpleNamespace(request=r) for r in requests])


class FakeLearners:
    """Sends weights at once. ``sent``: to whom, a list a hand-over; ``lost``: who does not take them, and why."""

    def __init__(self, lost: dict[int, str] | None = None) -> None:
        self.lost, self.sent = lost or {}, []

    def hand_over(self, workers: list) -> list:
        self.sent.append([index for index, *_ in workers])
        return ["taken"]

    def handed_over(self, calls: list, also=lambda reports: None) -> dict[int, str]:
        also([None])
        lost, self.lost = self.lost, {}
        return lost


def get(answer, timeout=None):
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr("ray.wait", lambda calls, num_returns=1, timeout=None: (calls, []))
    monkeypatch.setattr("ray.kill", lambda actor: None)


def run(
    scripts: list[list], share: float = 0.1, workers: int = 2, given_up: list[EpisodeLost] | None = None
) -> tuple[list[int], Fleet]:
    """Eight episodes; the n-th actor made follows the n-th script."""
    made = iter(scripts)
    fleet = Fleet(lambda index: FakeActor(next(made, [])), workers, 2, 60.0, share, lambda: None)
    fleet.start()
    fleet.load_weights(FakeLearners())
    requests = [EpisodeRequest(i, i // 2, 0, 0, True) for i in range(8)]
    gone = [] if given_up is None else given_up
    return sorted(e.request.episode for e in fleet.run(requests, [], gone, lambda group: [])), fleet


@pytest.mark.parametrize("error", [DEAD, LOST])
def test_what_a_dead_worker_had_is_run_again(error):
    """Once each; what a worker takes with it does not count as failed episodes."""
    done, fleet = run([["well", error], [error]], share=0.0)
    assert done == list(range(8))
    assert fleet.statistics.workers_replaced == 2
    assert fleet.statistics.lost == fleet.statistics.lost_with_workers > 0


def test_workers_that_report_in_time_are_known_to_live():
    """Only who has answered once can be missed later: while weights are loaded, say, after rollouts of seconds."""
    _, fleet = run([[], []])
    assert [worker.heartbeat.last for worker in fleet.workers] == [REPORT, REPORT]


def test_workers_share_what_there_is():
    """Each could take all at once, since it keeps episodes that wait for verdicts; none must leave another idle."""
    taken: list[list[int]] = [[], [], []]

    def make(index: int) -> FakeActor:
        actor = FakeActor([])
        advance = actor._advance
        actor.advance.remote = lambda requests, seconds: (
            taken[index].extend(r.episode for r in requests),
            advance(requests, seconds),
        )[1]
        return actor

    fleet = Fleet(make, 3, 16, 60.0, 0.0, lambda: None)
    requests = [EpisodeRequest(i, 0, 0, 0, True) for i in range(8)]
    assert len(list(fleet.run(requests, [], [], lambda group: []))) == 8
    assert [len(each) for each in taken] == [3, 3, 2]


def test_a_worker_that_dies_again_and_again_is_given_up_and_the_others_go_on():
    done, fleet = run([[DEAD], [], [DEAD], [DEAD]])
    assert done == list(range(8)) and [w.index for w in fleet.workers] == [1]


def test_without_workers_the_run_fails_and_says_why():
    with pytest.raises(RunFailedError, match="its node does not answer"):
        run([[DEAD] for _ in range(MOST_FAILURES)], workers=1)


def test_a_lost_request_is_made_once_more_and_then_given_up():
    """The first try may be chance: once more, identically. The second is not: the request is handed back, counted."""
    given_up: list[EpisodeLost] = []
    done, fleet = run([["lost"]], given_up=given_up)
    assert done == list(range(8)) and not given_up and fleet.statistics.lost == 3
    done, fleet = run([["lost", "well", "well", "lost"]], workers=1, given_up=given_up)
    gone = sorted(lost.request.episode for lost in given_up)
    assert gone and sorted([*done, *gone]) == list(range(8)) and fleet.statistics.given_up == len(gone)


def test_a_dropped_request_is_not_made_again():
    """The same seed and noise would be dropped again: its group is smaller, and it counts as no loss."""
    given_up: list[EpisodeLost] = []
    done, fleet = run([["dropped"]], share=0.0, workers=1, given_up=given_up)
    gone = [lost.request.episode for lost in given_up]
    assert sorted([*done, *gone]) == list(range(8)) and len(gone) == 3
    statistics = fleet.statistics
    assert (statistics.dropped, statistics.lost, statistics.given_up) == (3, 0, 0)


def test_the_budget_of_lost_episodes_is_a_rate():
    """Twenty-one of the latest 200 end a run at 0.1, however many it has made before: what is long ago is forgotten."""
    fleet = Fleet(lambda index: FakeActor([]), 1, 2, 60.0, 0.1, lambda: None)
    lost = [EpisodeLost(EpisodeRequest(i, 0, 0, 0, True), "the simulator died") for i in range(100_000)]
    for number in range(0, 10_000, 10):  # one in ten, for ever
        assert fleet._try_again(lost[number])
        for _ in range(9):
            fleet.statistics.tried(failed=False)
    assert fleet.statistics.lost == 1000 and len(fleet.statistics.recent) == 200
    with pytest.raises(RunFailedError, match=r"21 of the latest 200 episodes were lost.*max_lost_share=0.1.*died"):
        for number in range(20_000, 20_021):
            fleet._try_again(lost[number])


def test_a_guest_goes_back_to_its_own_place_before_the_next_weights():
    """Made anew once, given the weights that follow once it has started; those at home are left alone."""
    made, away = [], {1}

    def make(index: int) -> FakeActor:
        made.append(index)
        return FakeActor([])

    fleet = Fleet(make, 2, 2, 60.0, 0.0, lambda: None, away=lambda index: index in away and made.count(index) < 2)
    fleet.start()
    learners = FakeLearners()
    fleet.load_weights(learners)
    assert learners.sent == [[0]]
    list(fleet.run([EpisodeRequest(0, 0, 0, 0, True)], [], [], lambda group: []))
    assert learners.sent == [[0], [1]]
    fleet.load_weights(learners)
    assert made == [0, 1, 1] and learners.sent[2:] == [[0, 1]]


def test_an_episode_shares_no_memory_with_the_report_that_brought_it(make_episode):
    """An array out of Ray's store is a view that keeps the whole report there, with all pictures."""
    reports = []

    def advance(requests: list[EpisodeRequest], seconds: float) -> Advance:
        reports.append(Advance(episodes=[make_episode(r.episode, latencies_us=np.arange(3)) for r in requests]))
        return reports[-1]

    actor = FakeActor([])
    actor.advance.remote = advance
    fleet = Fleet(lambda index: actor, 1, 2, 60.0, 0.1, lambda: None)
    requests = [EpisodeRequest(i, 0, 0, 0, True) for i in range(4)]
    brought = {e.request.episode: e for e in fleet.run(requests, [], [], lambda group: [])}
    for sent in (episode for report in reports for episode in report.episodes):
        kept = brought[sent.request.episode]
        pairs = [(sent.decisions, kept.decisions, name) for name in ("images", "proprio", "tokens", "log_probs")]
        pairs += [(sent.end, kept.end, name) for name in ("step_rewards", "probabilities", "latencies_us")]
        for before_in, after_in, name in pairs:
            before, after = getattr(before_in, name), getattr(after_in, name)
            assert np.array_equal(before, after) and not np.shares_memory(before, after), name


class Slow:
    """What comes after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self.looks = looks


def wait(calls, num_returns=1, timeout=None):
    ready, late = [], []
    for call in calls:
        if isinstance(call, Slow) and call.looks > 0:
            call.looks -= 1
            late.append(call)
        else:
            ready.append(call)
    return ready, late


def test_a_worker_that_still_loads_its_policy_is_waited_for(monkeypatch):
    """7 billion parameters take longer than ``worker_timeout_s``: that is for reports. It plays with the weights."""
    monkeypatch.setattr("ray.wait", wait)
    start, order = Slow(20), []

    def make(index: int) -> FakeActor:
        actor = FakeActor([])
        if index == 1:
            advance = actor._advance
            actor.card.remote = lambda: start
            actor.advance.remote = lambda requests, seconds: (order.append(start.looks), advance(requests, seconds))[1]
        return actor

    fleet, learners = Fleet(make, 2, 2, 0.0, 0.0, lambda: None), FakeLearners()
    fleet.workers[0].look_at_start(NOTHING_TO_LOAD)
    fleet.load_weights(learners)
    assert learners.sent == [[0]]
    requests = [EpisodeRequest(i, 0, 0, 0, True) for i in range(8)]
    more = iter(EpisodeRequest(i, 0, 0, 0, True) for i in range(100, 1000))
    assert list(fleet.run(requests, [], [], lambda group: [] if order else [next(more)]))
    assert fleet.statistics.workers_replaced == 0 and learners.sent == [[0], [1]] and not any(order)


def test_a_worker_that_does_not_start_in_time_is_replaced_and_the_line_says_what_it_loads(monkeypatch, caplog):
    """The time follows the size of what it loads."""
    monkeypatch.setattr("ray.wait", wait)
    made = []

    def make(index: int) -> FakeActor:
        actor = FakeActor([])
        if not made:
            actor.card.remote = lambda: Slow(10**9)
        made.append(index)
        return actor

    fleet = Fleet(make, 1, 2, 60.0, 0.0, lambda: None, start_limit=LoadLimit(Path("models/7b"), 15 * 10**9))
    fleet.workers[0].since -= 900.5
    assert len(list(fleet.run([EpisodeRequest(0, 0, 0, 0, True)], [], [], lambda group: []))) == 1
    assert "has not started within 900 s: it loads 15.0 GB from models/7b" in caplog.text and made == [0, 0]


def test_who_does_not_take_the_weights_is_replaced_and_the_new_one_gets_them():
    """Before it plays; and the others are not asked to take them again."""
    fleet, learners = Fleet(lambda index: FakeActor([]), 3, 2, 60.0, 0.0, lambda: None), FakeLearners({1: "took none"})
    fleet.start()
    fleet.load_weights(learners)
    assert learners.sent == [[0, 1, 2]] and fleet.statistics.workers_replaced == 1
    list(fleet.run([EpisodeRequest(i, 0, 0, 0, True) for i in range(4)], [], [], lambda group: []))
    assert learners.sent == [[0, 1, 2], [1]]
