"""The order of initial states."""

from __future__ import annotations

import dataclasses

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


def test_a_dropped_group_gives_its_place_to_the_most_doubtful_state(make_episode):
    """The least done first, each once; new states when there is none, and always without ``data.revisit``."""
    schedule = Schedule(data(), tasks=1)
    half, rare = schedule.group(), schedule.group()
    done = {half[0].group: 2, rare[0].group: 1}
    kept = [
        [make_episode(r.episode, group=r.group, seed=r.seed, complete=i < done[r.group]) for i, r in enumerate(group)]
        for group in (half, rare)
    ]
    schedule.learnt_from(kept)
    assert schedule.group()[0].seed not in (half[0].seed, rare[0].seed), "an ordinary group is a new state"
    again = [schedule.group(instead=True)[0] for _ in range(3)]
    assert [r.seed for r in again[:2]] == [rare[0].seed, half[0].seed]
    assert again[2].seed == half[0].seed + 3, "the next new one"
    assert len({r.group for r in again}) == 3
    fresh = Schedule(dataclasses.replace(data(), revisit=False), tasks=1)
    fresh.learnt_from(kept)
    assert fresh.group(instead=True)[0].seed == half[0].seed


def test_a_restored_schedule_goes_on_where_it_was(make_episode):
    schedule = Schedule(data(), tasks=3)
    first = schedule.group()
    schedule.learnt_from([[make_episode(r.episode, group=0, seed=99) for r in first]])
    other = Schedule(dataclasses.replace(data()), tasks=3)
    other.restore(schedule.state())
    for instead in (True, False):
        theirs, ours = (s.group(instead=instead) for s in (other, schedule))
        assert [dataclasses.astuple(r) for r in theirs] == [dataclasses.astuple(r) for r in ours]
        assert (theirs[0].seed == 99) is instead
