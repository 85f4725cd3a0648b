"""The native backend against the same steps in Python, on the same memory: equal answers, or none at all."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_bridge import (
    BridgeClosed,
    Cancelled,
    Kind,
    Lane,
    Question,
    Reply,
    SegmentError,
    Server,
    Status,
    Verdict,
    backend,
)
from shm_bridge.memory.layout import VERDICT, FrameWord, QuestionWord, ServerWord, WorkerWord
from shm_bridge.server.counters import EDGES_NS, Counters
from shm_bridge.worker.lane_state import LaneState
from tests.shm_bridge import echo, hostile
from tests.shm_bridge.conftest import SPEC, use_backend

NATIVE = backend.native()
NO_SEMAPHORE = SimpleNamespace(address=0)
pytestmark = pytest.mark.skipif(NATIVE is None, reason="not built: python -m shm_bridge.build_native")
WORD = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 2, 3, 8, 9, 2**32, 2**63 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 16),
)
QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def asked(run_id: str, server: Server, lane: Lane) -> None:
    """One question answered, so that the sidecar knows lane and task; one more asked."""
    lane.begin_episode(1, "t")
    for step in range(2):
        echo.frame(lane, 1, step)
        lane.ask(Kind.DONE, step)
        if step == 0:
            echo.answer(server, server.poll()[0])
            lane.poll()


def taken(server: Server) -> list[Question]:
    """What is asked, in a second."""
    server.wait(1.0)
    return server.poll()


def words_of(lane: Lane, record: int, frame: int) -> st.SearchStrategy:
    """Places in a lane of what its worker says about one question and one frame."""
    return st.one_of(
        st.sampled_from(list(WorkerWord)[:-1]).map(lambda word: hostile.WORDS + word),
        st.sampled_from(list(QuestionWord)[:-1]).map(lambda word: record + word),
        st.sampled_from(list(FrameWord)[:-1]).map(lambda word: frame + word),
    )


@QUIET
@given(data=st.data())
def test_questions_are_read_alike(run_id, data):
    """Whatever stands in the words: native code takes what Python takes and reads the same, or leaves it."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        served = server._lanes.served[lane.index]
        taken, place = served.intake.taken, (served.intake.taken + 1) % SPEC.question_slots
        record = lane._memory.question_base + place * QuestionWord.COUNT
        parts = words_of(lane, record, lane._memory.frame_base + FrameWord.COUNT)
        for at, value in data.draw(st.lists(st.tuples(parts, WORD), max_size=2)):
            lane._memory.words[at] = value
        task_seq = served.intake.task_seq
        question = served.intake.take()
        assert served.intake.taken == (taken if question is None else question.ticket)
        served.intake.taken = taken
        questions: list = []
        try:
            served.take(questions, [])
        except SegmentError:
            questions = []
        if question is not None:
            assert questions == [question] and type(question) is Question and served.intake.taken == question.ticket
        elif questions:
            kind = lane._memory.words[record + QuestionWord.KIND]
            event = served.intake.task_seq != task_seq or len(questions) > 1 or kind != Kind.DONE
            assert event, "native code left an ordinary question to Python"


@QUIET
@given(
    status=WORD,
    done=WORD,
    valid=WORD,
    value=st.floats(),
    probability=st.floats(),
    rest=st.lists(WORD, min_size=6, max_size=6),
)
def test_verdicts_are_read_alike(run_id, status, done, valid, value, probability, rest):
    """Whatever the sidecar writes: native code reads what Python reads, or leaves it to it and keeps its state."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        questions, state = lane._questions, lane._state
        (question,) = state.open.values()
        served = server._lanes.served[lane.index]
        record = (question.ticket, status, done, valid, value, probability, *rest)
        VERDICT.pack_into(served.memory.verdict_words, question.position * 8, *record)
        expected = questions._read(question)
        verdict = state.collect(question)
        if verdict is None:
            assert status or done > 1 or valid > 1 or rest[4]
            assert list(state.open.values()) == [question] and sum(state.busy) == 1
            return
        assert type(verdict) is Verdict and [type(each) for each in verdict] == [type(each) for each in expected]
        assert repr(verdict[:10] + verdict[11:]) == repr(expected[:10] + expected[11:])
        assert expected[10] <= verdict[10] < expected[10] + 1_000_000
        assert not state.open and not any(state.busy)


def record_of(lane: Lane, ticket: int) -> list[int]:
    at = lane._memory.question_base + (ticket % SPEC.question_slots) * QuestionWord.COUNT
    return lane._memory.words[at : at + QuestionWord.COUNT].tolist()


@pytest.mark.parametrize("deadline", [None, 0.0, 3.5])
@pytest.mark.parametrize("first", [1, 2**64 - 2])
def test_lanes_are_written_alike(run_id, monkeypatch, deadline, first):
    """A lane of either backend: the same words in memory, but for the times, the same state, the same
    frames, over more than a lap."""
    with Server.create(run_id) as server:
        lanes = []
        for name in ("python", "native"):
            use_backend(name, monkeypatch)
            lanes.append(Lane.attach(run_id, SPEC, first_ticket=first, first_frame=first))
        assert type(lanes[0]._state) is LaneState and type(lanes[1]._state) is NATIVE.LaneState
        image = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)
        for episode in range(2):
            for lane in lanes:
                lane.begin_episode(episode, "t")
            for step in range(SPEC.frames):
                tickets = []
                for lane in lanes:
                    slot = lane.reserve()
                    slot["agentview"][...] = image + step
                    lane.publish(slot, step)
                    ticket = lane.ask(Kind.DONE, slot, deadline=deadline)
                    assert (lane.view(step)[::-1] == image + step).all()
                    tickets.append(ticket)
                compare(lanes, tickets[0], deadline)
                assert tickets[0] == tickets[1]
                for question in taken(server):
                    echo.answer(server, question)
                for lane, ticket in zip(lanes, tickets):
                    assert lane.wait(ticket).episode == episode
        for lane in lanes:
            lane.close()


def compare(lanes: list[Lane], ticket: int, deadline: float | None) -> None:
    """Two lanes that did the same."""
    records = [record_of(lane, ticket) for lane in lanes]
    for record in records:
        until, asked_ns = record.pop(QuestionWord.DEADLINE_NS), record.pop(QuestionWord.ASKED_NS)
        assert until == (0 if deadline is None else asked_ns + int(deadline * 1e9))
    assert records[0] == records[1] and records[0][0] == ticket
    ours, theirs = (lane._memory.words[hostile.WORDS : hostile.WORDS + WorkerWord.PARKED].tolist() for lane in lanes)
    assert ours == theirs and ours[WorkerWord.ASKED] == ticket
    frames = [lane._memory.words[lane._memory.frame_base :][: SPEC.frames * 4].tolist() for lane in lanes]
    assert frames[0] == frames[1]
    for name in ("place", "seq", "order", "episode", "busy", "next_ticket", "cancelled", "reserved", "value"):
        assert getattr(lanes[0]._state, name) == getattr(lanes[1]._state, name), name
    mine, other = (lane._state.open[ticket] for lane in lanes)
    assert type(mine) is type(other) and mine[:7] == other[:7]
    for slot, twin in zip(lanes[0]._state.slots, lanes[1]._state.slots):
        assert (slot is None) == (twin is None)
        if slot is not None:
            for name in ("index", "seq", "order", "step", "episode"):
                assert getattr(slot, name) == getattr(twin, name)
            assert not slot["agentview"].flags.writeable and not twin["agentview"].flags.writeable
    bells = [lane._attachment.control.bells[lane.index] for lane in lanes]
    assert bells == [lane._attachment.bell.rings for lane in lanes]


def test_answers_are_counted_alike(run_id):
    """Whatever the latency, native code counts an answer where Python counts it."""
    words = [memoryview(bytearray(8 * ServerWord.COUNT)).cast("Q") for _ in range(2)]
    mutex = threading.Lock()
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        (question,) = server.poll()
        served = server._lanes.served[lane.index]
        for latency_ns in [0, 1, 999, 1000, 1001, 33_554_432_000, 2**62, *(edge + 1000 for edge in EDGES_NS[::7])]:
            for valid, batch in [(True, 1), (False, 63), (True, 64), (True, 10**6)]:
                intake = NATIVE.Intake(served, 1, served.memory, served._bell, words[0], 1, mutex)
                asked_ns = time.monotonic_ns() - latency_ns
                reply = Reply(True, 0.5, 0.5, valid, batch_size=batch)
                assert intake.answer(question._replace(asked_ns=asked_ns), reply)
                verdicts = served.memory.verdict_words
                record = served.memory.verdict_base + (question.ticket % SPEC.question_slots) * 16
                verdicts[record], answered_ns = 0, verdicts[record + 11]
                Counters(words[1]).verdict(answered_ns - asked_ns, valid, Status.OK, batch)
                assert words[0].tolist() == words[1].tolist()


def test_one_answer_is_the_first(run_id):
    """A second, a late, and one that another thread is in the middle of: native code writes none."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        (question,) = server.poll()
        intake = server._lanes.served[lane.index].intake
        reply = Reply(done=True, probability=1.0)
        with server._mutex:
            assert intake.answer(question, reply) is None
        assert intake.answer(tuple(question), reply) is None  # whatever it is, it is no Question
        for other in (Reply(status=Status.FAILED), Reply(values=[1.0])):
            assert intake.answer(question, other) is None
        assert intake.answer(question, reply) and intake.answer(question, reply) is None
        ticket = lane.ask(Kind.DONE, 1)
        (question,) = server.poll()
        lane.cancel()
        assert intake.answer(question, reply) is None
        assert not server.answer(question, Reply(done=True))
        with pytest.raises(Cancelled):
            lane.wait(ticket)


def test_what_comes_out_of_order_is_left_to_python(run_id):
    """Several questions of a lane and another lane's first, rung for at once: none is lost, none comes twice."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        server.answer(taken(server)[0], Reply())
        with Lane.attach(run_id, SPEC) as other:
            other.begin_episode(1, "t")
            echo.frame(other, 1, 0)
            tickets = {(lane.index, lane.ask(Kind.DONE, 0)), (other.index, other.ask(Kind.DONE, 0))}
            found = taken(server)
            assert {(question.lane, question.ticket) for question in found} == tickets
            more = {(lane.index, lane.ask(Kind.DONE, 0)) for _ in range(3)}
            assert {(question.lane, question.ticket) for question in taken(server)} == more
            assert server.poll() == []


def test_a_closed_lane_and_a_closed_server_say_so(run_id):
    """Whatever way the last call went, after close() there is no memory to be touched."""
    server = Server.create(run_id)
    lane = Lane.attach(run_id, SPEC)
    asked(run_id, server, lane)
    (question,) = taken(server)
    slot = lane.reserve()
    lane.close()
    for call in (lane.reserve, lambda: lane.publish(slot, 5), lambda: lane.ask(Kind.DONE, 0)):
        with pytest.raises(BridgeClosed):
            call()
    with pytest.raises(BridgeClosed):
        lane.wait(2)
    assert taken(server) == [] and not server.answer(question, Reply(done=True))
    server.close()
    for call in (lambda: server.wait(0.1), server.poll):
        with pytest.raises(BridgeClosed):
            call()
    assert not server.answer(question, Reply())


def test_wrong_arguments_are_refused():
    """Never a crash: a number for a buffer, too few arguments, places outside the memory."""
    words = memoryview(bytearray(8 * 256)).cast("Q")
    read_only = memoryview(bytes(8 * 256)).cast("Q")
    bell = NATIVE.Bell(words, 0, NO_SEMAPHORE)
    for call in (
        lambda: NATIVE.Bell(1, 0, NO_SEMAPHORE),
        lambda: NATIVE.Bell(words),
        lambda: NATIVE.Bell(None, 0, NO_SEMAPHORE),
        lambda: NATIVE.Bell(memoryview(bytearray(8)), 0, NO_SEMAPHORE),
        lambda: NATIVE.LaneBell(words, 0, None),
        lambda: NATIVE.LaneBell(read_only, 0, bell),
        lambda: NATIVE.Tally(read_only),
        lambda: NATIVE.Answered(None, 0, 0),
        lambda: NATIVE.Sleeper(read_only, 0, NO_SEMAPHORE),
        lambda: NATIVE.Sleeper(words, 0, SimpleNamespace(address=None)),
        lambda: NATIVE.LaneScanner(words, words, words, words, None),
        lambda: NATIVE.Answered(words, 0, 1).spin("x"),
        lambda: NATIVE.Answered(words, 0, -1),
    ):
        with pytest.raises((BufferError, TypeError, ValueError, OverflowError)):
            call()
    for at in (256, -1, 2**62):
        for kind, last in [(NATIVE.Bell, NO_SEMAPHORE), (NATIVE.LaneBell, bell), (NATIVE.Answered, 0)]:
            with pytest.raises(IndexError):
                kind(words, at, last)
        with pytest.raises(IndexError):
            NATIVE.Sleeper(words, at, NO_SEMAPHORE)
    with pytest.raises(IndexError):
        NATIVE.LaneScanner(words, words[:255], words, words, [None] * 256)
    with pytest.raises(IndexError):
        NATIVE.Tally(words[: ServerWord.COUNT - 1])
    with pytest.raises((IndexError, TypeError)):
        NATIVE.LaneScanner(words, words, words[:100], words, [None] * 256)
    assert NATIVE.Answered(words, 255, 0)() and not NATIVE.Answered(words, 255, 1).spin(0)
    bell.close()
    words[0] = 1
    bell.ring()  # silent


@pytest.mark.parametrize("changed", range(300))
def test_any_lane_that_rang_is_found(changed):
    """Bells are compared in blocks: each of them is looked at, beginning after the lane that came first last time."""
    count = 300
    bells, generations = (memoryview(bytearray(8 * count)).cast("Q") for _ in range(2))
    words = memoryview(bytearray(8 * 256)).cast("Q")
    scanner = NATIVE.LaneScanner(bells, generations, words, words, [None] * count)
    assert scanner() and scanner.take() == [] and scanner.others == list(range(count)) and not scanner()
    for number in (changed, (changed * 7 + 3) % count):
        bells[number] += 1
    rung = sorted({changed, (changed * 7 + 3) % count})
    assert scanner() and scanner.take() == [] and sorted(scanner.others) == rung
    first = scanner.others[0]
    for number in range(count):
        bells[number] += 1
    scanner.take()
    assert scanner.others == [*range(first + 1, count), *range(first + 1)]
