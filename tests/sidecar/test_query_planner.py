"""From a question to queries: how many, about which frames, with which keys, how urgent. No engine, no bridge."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import picture, question, shown

from evo_vlac import queries
from shm_bridge import Kind
from sidecar.errors import QuestionError
from sidecar.query_planner import QueryPlanner
from sidecar.query_task import Priority
from sidecar.reference import References

REFERENCE = References(tuple(picture(step) for step in (200, 201, 202)))
STEPS = st.lists(st.integers(0, 99), min_size=2, max_size=12, unique=True).map(sorted)


@pytest.mark.parametrize(
    ("kind", "steps", "count", "priority"),
    [
        (Kind.DONE, (7,), 1, Priority.WAITED_FOR),
        (Kind.VALUE, (0, 4, 8, 9), 3, Priority.WAITED_FOR),
        (Kind.CRITIC, (0, 9), 1, Priority.ANSWER),
    ],
)
def test_what_an_episode_waits_for_is_urgent(
    kind: Kind, steps: tuple[int, ...], count: int, priority: Priority
) -> None:
    """An episode ends with its value list: dones of others, asked later, must not keep it waiting."""
    tasks = QueryPlanner().plan(question(kind, steps))
    assert [task.priority for task in tasks] == [priority] * count


@given(st.sampled_from(Kind), STEPS, st.integers(0, 9), st.integers(0, 10**12), st.integers(0, 10**12))
def test_every_task_knows_whose_it_is(kind: Kind, steps: list[int], lane: int, asked: int, deadline: int) -> None:
    """Lane, times and question are the asker's: by them the batcher orders, and the reply finds its way."""
    if kind is Kind.CRITIC:
        steps = steps[:2]
    asks = question(kind, steps, lane=lane, asked_ns=asked, deadline_ns=deadline)
    for task in QueryPlanner().plan(asks):
        assert task.question is asks
        assert (task.lane, task.asked_ns, task.deadline_ns) == (lane, asked, deadline)


@given(STEPS)
def test_a_done_is_about_the_last_frame(steps: list[int]) -> None:
    """One image, the newest, under a key that ends with its step."""
    (task,) = QueryPlanner(REFERENCE).plan(question(Kind.DONE, steps))
    assert shown(task.query.images) == [steps[-1]]
    assert task.query.image_keys == ((0, 1, steps[-1], steps[-1]),)
    assert task.query.choices == queries.done_query(picture(0), "x").choices and task.pending is None


@given(STEPS)
def test_a_value_list_compares_each_frame_with_the_one_before(steps: list[int]) -> None:
    """n frames make n - 1 pairs, numbered in order, all of one list that waits for each of them."""
    tasks = QueryPlanner().plan(question(Kind.VALUE, steps))
    assert [tuple(shown(task.query.images)) for task in tasks] == list(pairwise(steps))
    assert [task.pair for task in tasks] == list(range(len(steps) - 1))
    (pending,) = {id(task.pending): task.pending for task in tasks}.values()
    assert pending is not None and pending.missing == len(tasks) and not pending.critics


@pytest.mark.parametrize("steps", [(3,), (0,)])
def test_a_value_list_of_one_frame_needs_no_query(steps: tuple[int, ...]) -> None:
    """There is nothing to compare."""
    assert QueryPlanner(REFERENCE).plan(question(Kind.VALUE, steps)) == []


@given(STEPS)
def test_pairs_show_the_reference_and_the_first_frame_first(steps: list[int]) -> None:
    """What an episode's pairs share comes first and under equal keys: engines compute it once."""
    tasks = QueryPlanner(REFERENCE).plan(question(Kind.VALUE, steps))
    for task, (before, after) in zip(tasks, pairwise(steps)):
        assert shown(task.query.images) == [200, 201, 202, steps[0], before, after]
        assert task.query.prefix_images == len(REFERENCE.pictures) + 1
    prefixes = {(task.query.prompt, task.query.image_keys[:4]) for task in tasks}
    assert len(prefixes) == 1


@given(STEPS)
def test_a_pair_of_a_list_is_the_critic_of_its_frames(steps: list[int]) -> None:
    """Whether a pair was asked alone or in a list, the model reads the same."""
    planner = QueryPlanner()
    listed = planner.plan(question(Kind.VALUE, steps))
    alone = [planner.plan(question(Kind.CRITIC, pair))[0] for pair in pairwise(steps)]
    for ours, theirs in zip(listed, alone):
        assert (ours.query.kind, ours.query.prompt) == (theirs.query.kind, theirs.query.prompt)
        assert ours.query.image_keys == theirs.query.image_keys
        assert shown(ours.query.images) == shown(theirs.query.images)


@given(STEPS, STEPS, st.sampled_from([(0, 1), (1, 1), (0, 2)]))
def test_a_key_names_one_frame(steps: list[int], others: list[int], whose: tuple[int, int]) -> None:
    """Equal keys are the same frame of the same lane and generation, whatever was asked: caches rely on it."""
    planner, (lane, generation) = QueryPlanner(), whose
    seen: dict[object, tuple[int, int, int]] = {}
    for asks in (question(Kind.VALUE, steps), question(Kind.VALUE, others, lane=lane, generation=generation)):
        for task in planner.plan(asks):
            for key, step in zip(task.query.image_keys, shown(task.query.images)):
                frame = (asks.lane, asks.generation, step)
                assert seen.setdefault(key, frame) == frame
    assert len(set(seen.values())) == len(seen)


@given(st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from([16, 24])), min_size=2, max_size=2), st.booleans())
def test_a_bucket_is_one_kind_and_one_shape(asked: list[tuple[Kind, int]], mixed: bool) -> None:
    """A batch is one tensor; an engine that schedules requests one by one has everything in one bucket."""
    planner = QueryPlanner(mixed=mixed)
    first, second = (planner.plan(question(kind, (0, 1), size=size))[0] for kind, size in asked)
    alike = all(
        (task.query.kind, len(task.query.images), np.shape(task.query.images[-1]))
        == (first.query.kind, len(first.query.images), np.shape(first.query.images[-1]))
        for task in (first, second)
    )
    assert (first.bucket == second.bucket) == (alike or mixed)


def test_the_critic_sees_the_configured_camera() -> None:
    """One camera; without a name the lane's first."""
    steps = (1, 2)
    (first,), (wrist,) = (QueryPlanner(camera=name).plan(question(Kind.CRITIC, steps)) for name in (None, "wrist"))
    assert shown(first.query.images) == [1, 2] and shown(wrist.query.images) == [101, 102]


@pytest.mark.parametrize(
    ("planner", "asks", "said"),
    [
        (QueryPlanner(camera="front"), question(Kind.DONE, (1,)), "KeyError: 'front'"),
        (QueryPlanner(), question(Kind.DONE, ()), "IndexError"),
        (QueryPlanner(), question(Kind.CRITIC, (1,)), "IndexError"),
    ],
)
def test_what_cannot_be_asked_is_said(planner: QueryPlanner, asks: object, said: str) -> None:
    """An unknown camera, frames that are missing: an error of this question with its reason, and of no other."""
    with pytest.raises(QuestionError, match=said):
        planner.plan(asks)  # type: ignore[arg-type]


@given(st.sampled_from(Kind), STEPS)
def test_planning_remembers_nothing(kind: Kind, steps: list[int]) -> None:
    """The same question makes the same queries again; two lists never share what they wait for."""
    planner, asks = QueryPlanner(REFERENCE), question(kind, steps)
    once, again = planner.plan(asks), planner.plan(asks)
    for one, other in zip(once, again, strict=True):
        assert (one.query.prompt, one.query.image_keys) == (other.query.prompt, other.query.image_keys)
        assert one.pending is None or one.pending is not other.pending


def test_each_task_is_asked_with_its_own_reference() -> None:
    """And one that has none is asked without; no two tasks' pictures share a key, by which engines remember them."""
    pictures = tuple(picture(step) for step in (200, 201, 210))
    planner = QueryPlanner(References(pictures, {"lift the red cube": range(2), "open the door": range(2, 3)}))
    red, door, other = (
        planner.plan(question(Kind.VALUE, (0, 9), task=task))[0].query
        for task in ("Lift the  red cube.", "open the door", "push the plate")
    )
    assert shown(red.images) == [200, 201, 0, 0, 9] and shown(door.images) == [210, 0, 0, 9]
    assert shown(other.images) == [0, 9] and other.prefix_images == 0
    assert red.image_keys[:2] == (("reference", 0), ("reference", 1)) and door.image_keys[0] == ("reference", 2)
