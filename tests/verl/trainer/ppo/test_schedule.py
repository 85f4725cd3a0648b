"""The order of initial states."""

from __future__ import annotations

import dataclasses
import json

import pytest

from verl.trainer.load_config import load_config
from verl.trainer.ppo.schedule import Schedule


def data():
    return load_config(["data.n_samples=4", "data.val_batch_size=6"])[0].data


def test_a_group_shares_its_initial_state_and_every_task_comes_once_before_any_twice():
    schedule = Schedule(data(), tasks=5)
    groups = [schedule.group() for _ in range(10)]
    for group in groups:
        assert len({(r.task, r.seed, r.group) for r in group}) == 1
    assert sorted(g[0].task for g in groups[:5]) == list(range(5))
    assert len({r.episode for g in groups for r in g}) == 40


def test_evaluation_is_always_the_same_and_never_meets_training():
    schedule = Schedule(data(), tasks=2)
    first, second = schedule.evaluation(), schedule.evaluation()
    assert [(r.task, r.seed) for r in first] == [(r.task, r.seed) for r in second]
    assert not {r.episode for r in first} & {r.episode for r in second}
    training = {r.seed for _ in range(50) for r in schedule.group()}
    assert not training & {r.seed for r in first}


@pytest.mark.parametrize(("greedy", "episodes"), [(True, 20), (False, 496)])
def test_an_evaluation_counts_states_and_greedily_plays_each_once(greedy, episodes):
    """496 episodes of two tasks with 10 states each are no 496 trials: n is 20, and a greedy repeat is not played."""
    schedule = Schedule(dataclasses.replace(data(), val_batch_size=496), tasks=2, states=10, greedy=greedy)
    requests = schedule.evaluation()
    assert len(requests) == schedule.evaluation_episodes() == episodes
    assert len({(r.task, r.seed % 10) for r in requests}) == schedule.evaluation_states() == 20


@pytest.mark.parametrize("states", [None, 50])
def test_states_that_are_enough_are_all_played(states):
    schedule = Schedule(dataclasses.replace(data(), val_batch_size=100), tasks=2, states=states)
    assert schedule.evaluation_episodes() == schedule.evaluation_states() == len(schedule.evaluation()) == 100


def test_evaluations_have_numbers_of_their_own_whatever_they_play():
    """An episode's number keys its noise: those of a second evaluation, also after a resume, are not the first's."""
    schedule = Schedule(dataclasses.replace(data(), val_batch_size=496), tasks=2, states=10)
    other = Schedule(schedule.data, tasks=2, states=10)
    first = schedule.evaluation()
    other.restore(schedule.state())
    second = schedule.evaluation()
    assert [r.episode for r in other.evaluation()] == [r.episode for r in second]
    assert not {r.episode for r in first} & {r.episode for r in second}


def test_a_restored_schedule_goes_on_where_it_was():
    schedule = Schedule(data(), tasks=3)
    schedule.group()
    other = Schedule(dataclasses.replace(data()), tasks=3)
    other.restore(schedule.state())
    assert [dataclasses.astuple(r) for r in other.group()] == [dataclasses.astuple(r) for r in schedule.group()]


def by_need(make_episode, episodes: int = 16) -> Schedule:
    """Two tasks of which the critic called the second done always and the first never."""
    schedule = Schedule(dataclasses.replace(data(), task_sampling="failure", need_floor=0.2), tasks=2)
    schedule.note(make_episode(i, task=i % 2, score=float(i % 2)) for i in range(episodes))
    return schedule


def test_by_need_the_task_that_fails_comes_more_often_and_none_is_forgotten(make_episode):
    schedule = by_need(make_episode)
    tasks = [schedule.group()[0].task for _ in range(20)]
    assert tasks.count(0) == 16 and tasks.count(1) == 4  # 0.1 + 0.8 x 0.9, and 0.1 + 0.8 x 0.1
    states = Schedule(data(), tasks=1)
    assert {schedule.group()[0].seed for _ in range(9)}.isdisjoint({states.group()[0].seed for _ in range(4)})


def test_by_need_every_visit_of_a_task_has_a_state_of_its_own(make_episode):
    schedule = by_need(make_episode)
    states = [(r[0].task, r[0].seed) for r in (schedule.group() for _ in range(30))]
    assert len(set(states)) == 30


def test_need_goes_on_from_a_checkpoint(make_episode):
    schedule = by_need(make_episode, 7)
    for _ in range(3):
        schedule.group()
    other = Schedule(schedule.data, tasks=2)
    other.restore(json.loads(json.dumps(schedule.state())))
    assert [other.group() for _ in range(9)] == [schedule.group() for _ in range(9)]


def test_a_checkpoint_that_tells_of_no_need_is_taken(make_episode):
    """One of other tasks, or of a version before."""
    old = {"next_group": 4, "next_episode": 16, "evaluations": 1}
    for state in (old, Schedule(data(), tasks=3).state()):
        schedule = by_need(make_episode)
        schedule.restore(state)
        assert schedule.next_group == state["next_group"] and len(schedule.visits) == 2
