"""Groups of a rollout: replaced when they carry no signal, smaller when something of them was dropped. Pure."""

from __future__ import annotations

from verl.algorithms.core_algos import GroupFilter
from verl.episode import EpisodeLost, EpisodeRequest
from verl.trainer.ppo.groups import MOST_OVERSAMPLING, RolloutGroups


def play(make_episode, groups: RolloutGroups, group: int, scores: list[float | None]) -> list[bool]:
    """Ends a group's episodes one by one; None: dropped."""
    wants = []
    for i, score in enumerate(scores):
        number = group * groups.size + i
        if score is None:
            groups.given_up.append(EpisodeLost(EpisodeRequest(number, group, 0, 0, True), "unreadable", True))
        else:
            groups.finished.append(make_episode(number, 4, score, group=group))
        wants.append(groups.wants_another(group))
    return wants


def make(wanted: int = 1, affordable: int = 99, size: int = 4) -> RolloutGroups:
    return RolloutGroups(size, GroupFilter(), wanted, affordable, started=wanted)


def test_a_group_without_a_signal_is_replaced_when_it_has_ended(make_episode):
    groups = make()
    assert play(make_episode, groups, 0, [1, 1, 1, 1]) == [False, False, False, True]
    assert play(make_episode, groups, 1, [1, 0, 1, 1]) == [False, False, False, False]
    assert (groups.kept, groups.dropped, groups.started) == (1, 1, 2)
    assert [e.request.episode for g in groups.with_signal(groups.finished) for e in g] == [4, 5, 6, 7]


def test_a_group_that_lost_some_ends_all_the_same_and_counts_by_what_is_left(make_episode):
    """Two of four dropped, one success and one failure left: trained on. Three dropped: nothing to compare."""
    groups = make(wanted=2)
    assert play(make_episode, groups, 0, [None, 1, None, 0]) == [False] * 4
    assert play(make_episode, groups, 1, [None, None, 1, None]) == [False, False, False, True]
    assert (groups.kept, groups.dropped) == (1, 1)
    assert [[e.request.episode for e in g] for g in groups.with_signal(groups.finished)] == [[1, 3]]


def test_a_starving_filter_does_not_eat_the_whole_budget(make_episode):
    groups = make(wanted=2)
    number = 0
    while number < groups.started:
        play(make_episode, groups, number, [0, 0, 0, 0])
        number += 1
    assert groups.started == 2 * MOST_OVERSAMPLING and groups.dropped == groups.started
