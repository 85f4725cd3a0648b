"""The batcher: what goes into a batch, and in which order. Time is injected."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from evo_vlac.engine import Query
from sidecar.batcher import AWAY_NS, Batcher
from sidecar.query_task import Priority, QueryTask


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def make(max_size: int = 4, wait: int = 0) -> tuple[Batcher, Clock]:
    clock = Clock()
    return Batcher(max_size, wait, clock), clock


def task(
    name: str, lane: int = 0, bucket: str = "a", priority: Priority = Priority.WAITED_FOR, **times: int
) -> QueryTask:
    query = Query(kind="done", prompt=name, images=(), system="", max_new_tokens=1)
    return QueryTask(query, lane, bucket, priority, **times)


def names(batch: list[QueryTask]) -> list[str]:
    return [one.query.prompt for one in batch]


def test_an_idle_engine_takes_what_is_ready() -> None:
    """With no wait configured, one question is a batch at once."""
    batcher, _ = make()
    batcher.add(task("x"))
    assert names(batcher.take()) == ["x"]
    assert batcher.take() == []


def test_what_arrives_while_the_engine_is_busy_joins_one_batch() -> None:
    """Between two takes everything collects, up to the largest size."""
    batcher, _ = make(max_size=8)
    batcher.add(task("first"))
    batcher.take()
    for i in range(5):
        batcher.add(task(str(i), lane=i))
    assert names(batcher.take()) == ["0", "1", "2", "3", "4"]


def test_lanes_are_served_in_turn() -> None:
    """A lane with many questions does not push out one with few."""
    batcher, _ = make(max_size=4)
    for i in range(10):
        batcher.add(task(f"busy{i}", lane=1))
    batcher.add(task("quiet", lane=2))
    assert names(batcher.take()) == ["busy0", "quiet", "busy1", "busy2"]


def test_turns_go_on_across_batches() -> None:
    """Who was served last comes last in the next batch."""
    batcher, _ = make(max_size=1)
    for lane in (1, 2, 3):
        for i in range(2):
            batcher.add(task(f"{lane}.{i}", lane=lane))
    assert [names(batcher.take())[0] for _ in range(6)] == ["1.0", "2.0", "3.0", "1.1", "2.1", "3.1"]


def test_a_done_goes_before_a_pair() -> None:
    """Priority decides, not age."""
    batcher, clock = make()
    batcher.add(task("pair", bucket="v", priority=Priority.ANSWER, asked_ns=0))
    clock.now = 5
    batcher.add(task("done", bucket="d", asked_ns=5))
    assert names(batcher.take()) == ["done"]
    assert names(batcher.take()) == ["pair"]


def test_a_batch_holds_one_bucket_and_the_oldest_is_first() -> None:
    """Shapes are never mixed; of equal priority the longest waiting bucket is served."""
    batcher, _ = make()
    batcher.add(task("young", bucket="b", asked_ns=9))
    batcher.add(task("old", bucket="a", asked_ns=1))
    batcher.add(task("young2", bucket="b", asked_ns=10, lane=1))
    assert names(batcher.take()) == ["old"]
    assert names(batcher.take()) == ["young", "young2"]


def test_max_wait_holds_a_small_batch_back_but_not_a_full_one() -> None:
    """The wait counts from the oldest question's asking."""
    batcher, clock = make(max_size=2, wait=100)
    batcher.add(task("x", asked_ns=0))
    assert batcher.take() == [] and batcher.wait_ns() == 100
    clock.now = 100
    assert names(batcher.take()) == ["x"]
    batcher.add(task("y", asked_ns=100))
    batcher.add(task("z", asked_ns=100))
    assert names(batcher.take()) == ["y", "z"]


def test_an_expired_task_is_handed_back_not_run() -> None:
    """A deadline that has passed takes a task out of the queue; others stay."""
    batcher, clock = make()
    batcher.add(task("late", deadline_ns=10))
    batcher.add(task("never", deadline_ns=0))
    batcher.add(task("later", deadline_ns=20))
    clock.now = 10
    assert names(batcher.expired()) == ["late"]
    assert batcher.expired() == []
    clock.now = 20
    assert names(batcher.expired()) == ["later"]
    assert names(batcher.take()) == ["never"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.sampled_from(list(Priority)), st.booleans()),
        max_size=60,
    ),
    st.integers(1, 7),
)
def test_nothing_is_lost_doubled_or_out_of_order(script: list[tuple[int, str, Priority, bool]], size: int) -> None:
    """Any mix of adds and takes: each task comes out once; of a lane and bucket, in the order it went in; no batch is
    larger than allowed or mixes buckets; no lane is served twice in a batch before another that waits is served."""
    batcher, clock = make(max_size=size)
    added: list[QueryTask] = []
    out: list[QueryTask] = []

    def check(batch: list[QueryTask]) -> None:
        assert len(batch) <= size and len({(one.bucket, one.priority) for one in batch}) <= 1
        out.extend(batch)

    for i, (lane, bucket, priority, take) in enumerate(script):
        clock.now = i
        added.append(task(str(i), lane, bucket, priority, asked_ns=i))
        batcher.add(added[-1])
        if take:
            check(batcher.take())
    for _ in range(len(script)):
        check(batcher.take())
    assert sorted(names(out)) == sorted(names(added)) and len(batcher) == 0
    for key in {(one.lane, one.bucket, one.priority) for one in added}:
        mine = [int(one.query.prompt) for one in out if (one.lane, one.bucket, one.priority) == key]
        assert mine == sorted(mine)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 6))
def test_no_lane_waits_while_another_is_served_twice(lanes: list[int], size: int) -> None:
    """Within a batch the counts of two lanes differ by more than one only if the smaller one ran out."""
    batcher, _ = make(max_size=size)
    for i, lane in enumerate(lanes):
        batcher.add(task(str(i), lane))
    batch = batcher.take()
    served = {lane: sum(one.lane == lane for one in batch) for lane in set(lanes)}
    for lane, count in served.items():
        if count < lanes.count(lane):
            assert max(served.values()) <= count + 1


def test_an_engine_takes_what_is_at_home_with_it_first() -> None:
    """A batch is of one home; another's tasks come next, even older ones."""
    batcher, clock = make()
    batcher.add(task("theirs", asked_ns=1), home=1)
    batcher.add(task("ours", asked_ns=2), home=0)
    clock.now = 3
    assert names(batcher.take(0)) == ["ours"]
    assert names(batcher.take(0)) == ["theirs"]


def test_a_task_that_waited_long_is_anybodys() -> None:
    """An engine that is slow or dead starves nobody, however busy the others are with their own."""
    batcher, clock = make()
    batcher.add(task("theirs", asked_ns=1), home=1)
    batcher.add(task("ours", asked_ns=2 + AWAY_NS), home=0)
    clock.now = 3 + AWAY_NS
    assert names(batcher.take(0)) == ["theirs"]


def test_urgent_tasks_of_another_go_before_ones_own_that_can_wait() -> None:
    batcher, _ = make()
    batcher.add(task("ours", priority=Priority.ANSWER), home=0)
    batcher.add(task("theirs"), home=1)
    assert names(batcher.take(0)) == ["theirs"]


def test_what_an_idle_engine_is_about_to_take_is_left_to_it() -> None:
    """It is not waited for either."""
    batcher, _ = make()
    batcher.add(task("theirs"), home=1)
    assert batcher.take(0, leave={1}) == [] and batcher.wait_ns({1}) is None
    assert batcher.wait_ns() == 0
    assert names(batcher.take(1, leave={0})) == ["theirs"]
