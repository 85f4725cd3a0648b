"""From answers to replies: what counts, what is unreadable, what is an outage; and when the reply is due."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import clock, question

from evo_vlac.engine import Answer, TokenInfo
from evo_vlac.values import critic_to_values
from shm_bridge import Kind, Status
from sidecar.config import Config
from sidecar.query_planner import QueryPlanner
from sidecar.query_task import QueryTask
from sidecar.reply_builder import ExplainedReply, ReplyBuilder

Said = str | None
STEPS = (0, 4, 8, 12, 16)
OUTAGE = "HTTP 503: busy"
SAID = st.one_of(st.sampled_from([None, "?", "+10 or so", "900"]), st.integers(-100, 100).map(lambda n: f"{n:+d}"))


def builder(now: int = 0, **keys: Any) -> ReplyBuilder:
    return ReplyBuilder(Config(run_id="replies", engine="fixed", **keys), clock(now))


def planned(kind: Kind, steps: Sequence[int]) -> list[QueryTask]:
    return QueryPlanner().plan(question(kind, steps))


def answer(said: Said) -> Answer:
    """A text, or None for an error of the engine."""
    return Answer("", error=OUTAGE) if said is None else Answer(said)


def answered(kind: Kind, steps: Sequence[int], said: Sequence[Said]) -> ExplainedReply:
    """The reply when the queries are answered so, one after the other."""
    replies, tasks = builder(), planned(kind, steps)
    assert len(tasks) == len(said)
    out = [replies.settle(task, answer(text), 1, 1, 1) for task, text in zip(tasks, said)]
    assert out[:-1] == [None] * (len(said) - 1) and out[-1] is not None
    return out[-1]


# -- value lists -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (("+10", "+10", "+10", "+10"), [0, 10, 19, 27.1, 34.39]),
        (("?", "+10", "+10", "+10"), [0, 0, 10, 19, 27.1]),
        (("+10", "well", "+10", "+10"), [0, 10, 10, 19, 27.1]),
        (("?", "+10", "?", "+10"), [0, 0, 10, 10, 19]),
    ],
)
def test_an_unreadable_pair_is_a_hole_over_which_the_value_stays(said: tuple[str, ...], values: list[float]) -> None:
    """The last pair and half of all can be read: the list counts, and says how many holes it has."""
    reply = answered(Kind.VALUE, STEPS, said)
    holes = sum(text[0] != "+" for text in said)
    assert (reply.valid, reply.status, reply.unreadable) == (True, Status.OK, holes)
    assert reply.values is not None and np.asarray(reply.values).tolist() == pytest.approx(values)
    assert reply.value == pytest.approx(values[-1]) and reply.probability == 1 - holes / 4
    assert reply.text == next((text for text in said if text[0] != "+"), "")


@pytest.mark.parametrize("said", [("+10", "+10", "+10", "?"), ("?", "?", "?", "+10"), ("?", "?", "?", "?")])
def test_a_list_without_its_last_or_most_pairs_is_invalid(said: tuple[str, ...]) -> None:
    """Its reward would rest on what nobody said; the numbers are there to be looked at."""
    reply = answered(Kind.VALUE, STEPS, said)
    assert (reply.valid, reply.status, reply.text) == (False, Status.INVALID, "?")
    assert reply.values is not None and np.shape(reply.values) == (5,) and np.isnan(reply.value)


@pytest.mark.parametrize("said", [("+10", None, "+10", "+10"), (None, "?", "?", "?"), ("?", "+10", "+10", None)])
def test_a_list_with_a_pair_that_got_no_answer_has_failed(said: tuple[Said, ...]) -> None:
    """An outage is no unreadable answer, however many of these there are beside it; the reason is kept."""
    reply = answered(Kind.VALUE, STEPS, said)
    assert (reply.valid, reply.status, reply.text) == (False, Status.FAILED, OUTAGE)
    assert reply.values is None


@given(st.lists(SAID, min_size=1, max_size=10))
def test_the_rule_of_lists(said: list[Said]) -> None:
    """FAILED with any outage; else OK with the last pair and half of all readable; else INVALID. Numbers as evo_vlac's
    formula gives them, an unreadable pair as NaN."""
    reply = answered(Kind.VALUE, range(len(said) + 1), said)
    if None in said:
        assert (reply.status, reply.values) == (Status.FAILED, None)
        return
    numbers = [float(text) if _is_percent(text) else math.nan for text in said]
    holes = [math.isnan(number) for number in numbers]
    valid = not holes[-1] and 2 * sum(holes) <= len(holes)
    assert reply.status is (Status.OK if valid else Status.INVALID) and reply.valid is valid
    assert np.asarray(reply.values).tolist() == pytest.approx(critic_to_values(numbers), rel=1e-6, abs=1e-4)
    assert reply.unreadable == sum(holes) and reply.probability == pytest.approx(1 - sum(holes) / len(holes))
    assert math.isnan(reply.value) is not valid


def _is_percent(text: Said) -> bool:
    return text is not None and text[0] in "+-" and text[1:].isdigit()


@given(st.integers(2, 8).flatmap(lambda n: st.permutations(range(n))), st.lists(st.integers(0, 3), min_size=8))
def test_pairs_may_come_in_any_order_and_in_any_batches(order: list[int], batches: list[int]) -> None:
    """The reply comes with the last one and is the same; a batch's time counts once, however many pairs it held."""
    batch_of = sorted(batches[: len(order)])
    replies, tasks = builder(), planned(Kind.VALUE, range(len(order) + 1))
    said = [f"{10 * (i + 1)}" for i in range(len(tasks))]
    out = []
    for i, batch in zip(order, batch_of):
        taken_ns, engine_ns = 1_000_000 * (batch + 1), 1_000 * (batch + 1)
        out.append(replies.settle(tasks[i], Answer(said[i]), taken_ns, engine_ns, batch_of.count(batch)))
    assert out[:-1] == [None] * (len(out) - 1)
    reply = out[-1]
    assert reply is not None and reply.values is not None
    expected = critic_to_values([float(text) for text in said])
    assert np.asarray(reply.values).tolist() == pytest.approx(expected, rel=1e-6)
    assert reply.engine_us == sum(batch + 1 for batch in set(batch_of))
    assert reply.batch_size == max(batch_of.count(batch) for batch in batch_of)
    assert reply.queue_us == (1_000_000 * (batch_of[0] + 1) - 5_000) // 1000


@given(st.integers(2, 8).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n)))
def test_a_list_is_replied_to_once(given_up: list[bool]) -> None:
    """Whichever of its pairs are answered and which expire or are cancelled: one reply, EXPIRED where one was."""
    replies, tasks = builder(), planned(Kind.VALUE, range(len(given_up) + 1))
    out = [
        replies.unanswered(task, Status.EXPIRED) if gone else replies.settle(task, Answer("+10"), 1, 1, 1)
        for task, gone in zip(tasks, given_up)
    ]
    (reply,) = [one for one in out if one is not None]
    assert reply.status is (Status.EXPIRED if any(given_up) else Status.OK)
    assert reply.valid is not any(given_up)


def test_a_list_of_one_frame_is_zero() -> None:
    """No pair, no engine: the value list begins with 0."""
    reply = builder(now=7_000).without_pairs(question(Kind.VALUE, (3,)))
    assert (reply.status, reply.valid, reply.value, reply.probability) == (Status.OK, True, 0.0, 1.0)
    assert np.asarray(reply.values).tolist() == [0.0] and (reply.queue_us, reply.batch_size) == (2, 0)


# -- questions that are one query ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "steps"), [(Kind.DONE, (7,)), (Kind.CRITIC, (0, 9))])
def test_statuses_stay_apart(kind: Kind, steps: tuple[int, ...]) -> None:
    """A text that cannot be read is INVALID with the text; no answer is FAILED with the reason."""
    unread, failed = answered(kind, steps, ["gar-bage"]), answered(kind, steps, [None])
    assert (unread.valid, unread.status, unread.text) == (False, Status.INVALID, "gar-bage")
    assert (failed.valid, failed.status, failed.text) == (False, Status.FAILED, OUTAGE)
    assert unread.images and not failed.images


@given(st.sampled_from([Kind.DONE, Kind.CRITIC]), st.one_of(st.text(max_size=8), SAID.filter(bool)))
def test_no_number_without_a_verdict(kind: Kind, said: str) -> None:
    """Whatever the model says: OK with numbers, or INVALID with none. A done has a probability and no value."""
    reply = answered(kind, (0, 1), [said])
    assert reply.status in (Status.OK, Status.INVALID) and reply.valid is (reply.status is Status.OK)
    if not reply.valid:
        assert math.isnan(reply.value) and math.isnan(reply.probability) and not reply.done
        assert (reply.text, reply.unreadable) == (said, 1)
    elif kind is Kind.DONE:
        assert math.isnan(reply.value) and 0 <= reply.probability <= 1
    else:
        assert -100 <= reply.value <= 100 and not reply.done


@given(st.floats(0.001, 0.999), st.floats(0, 0.999))
def test_done_is_strictly_over_the_threshold(probability: float, threshold: float) -> None:
    """P(done) of the two words' probabilities decides, not which of them was said."""
    top = (("1", math.log(probability)), ("0", math.log(1 - probability)))
    (task,) = planned(Kind.DONE, (1,))
    reply = builder(threshold=threshold).settle(task, Answer("0", (TokenInfo("0", top[1][1], top),)), 1, 1, 1)
    assert reply is not None and reply.done is (reply.probability > threshold)
    assert reply.probability == pytest.approx(probability)


@pytest.mark.parametrize(("kind", "steps"), [(Kind.DONE, (7,)), (Kind.CRITIC, (0, 9)), (Kind.VALUE, (0, 4))])
@pytest.mark.parametrize("text", [1, ["1"], None])
def test_an_answer_that_breaks_its_reading_fails_alone(kind: Kind, steps: tuple[int, ...], text: Any) -> None:
    """Whatever an engine hands over, the question is replied to and the service goes on."""
    (task,) = planned(kind, steps)
    reply = builder().settle(task, Answer(text), 1, 1, 1)
    assert reply is not None and reply.status is Status.FAILED and "cannot be read" in reply.text


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 64))
def test_times_of_one_query(waited: int, engine: int, size: int) -> None:
    """Microseconds from asking to the batch, and in the engine; never below 0."""
    (task,) = planned(Kind.DONE, (1,))
    reply = builder().settle(task, Answer("1"), task.asked_ns + waited, engine, size)
    assert reply is not None
    assert (reply.queue_us, reply.engine_us, reply.batch_size) == (waited // 1000, engine // 1000, size)
    early = builder().settle(task, Answer("1"), 0, 0, 1)
    assert early is not None and early.queue_us == 0


@pytest.mark.parametrize("status", [Status.EXPIRED, Status.CANCELLED])
def test_what_was_given_up_has_no_numbers(status: Status) -> None:
    """The time waited is told, nothing else."""
    (task,) = planned(Kind.DONE, (1,))
    reply = builder(now=9_000).unanswered(task, status)
    assert reply is not None and (reply.status, reply.valid, reply.done) == (status, False, False)
    assert math.isnan(reply.value) and math.isnan(reply.probability) and reply.queue_us == 4
