"""The compiled helper against the same steps in Python, on the same memory: equal answers, or none at all."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_bridge import Kind, Lane, SegmentError, Server, native
from shm_bridge.asking import OK
from shm_bridge.layout import VERDICT, FrameWord, QuestionWord, WorkerWord
from tests.shm_bridge import echo, hostile
from tests.shm_bridge.conftest import SPEC

HELPER = native.helper()
pytestmark = pytest.mark.skipif(HELPER is None, reason="not built: python -m shm_bridge.build_native")
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


@QUIET
@given(data=st.data())
def test_questions_are_read_alike(run_id, data):
    """Whatever stands in the words: the helper takes what Python takes and reads the same in it, or leaves it to it."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        served = server._lanes.served[lane.index]
        taken, place = served._taken, (served._taken + 1) % SPEC.question_slots
        record = lane._memory.question_base + place * QuestionWord.COUNT
        frame = lane._memory.frame_base + FrameWord.COUNT
        parts = st.one_of(
            st.sampled_from(list(WorkerWord)[:-1]).map(lambda word: hostile.WORDS + word),
            st.sampled_from(list(QuestionWord)[:-1]).map(lambda word: record + word),
            st.sampled_from(list(FrameWord)[:-1]).map(lambda word: frame + word),
        )
        for at, value in data.draw(st.lists(st.tuples(parts, WORD), max_size=2)):
            lane._memory.words[at] = value
        task = served._task_seq, served._task_episode, served._task
        fields = HELPER.take(
            served._words, served._verdicts, taken, served._slots, served._frames, served._question_base,
            served._frame_base, served._verdict_base, *task[:2], served, task[2], Kind.DONE,
        )  # fmt: skip
        served._quick = None
        questions: list = []
        try:
            served.take(questions, [])
        except SegmentError:
            questions = []
        if fields is not None:
            assert len(questions) == 1 and fields == tuple(questions[0]) and served._taken == fields[1]
        elif questions:
            event = served._task_seq != task[0] or len(questions) > 1 or lane._memory.words[record + 1] != Kind.DONE
            assert event, "the helper left an ordinary question to Python"


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
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        asked(run_id, server, lane)
        asking = lane._asking
        (question,) = asking._open.values()
        memory = memoryview(bytearray(lane._memory.verdict_part)).cast("Q")
        VERDICT.pack_into(
            memory, question.position * 8, question.ticket, status, done, valid, value, probability, *rest
        )
        fields = HELPER.collect(memory, question, OK)
        if fields is None:
            assert status or done > 1 or valid > 1 or rest[4]
            return
        asking._verdicts = memory
        expected = asking._read(question)
        assert [type(each) for each in fields] == [type(each) for each in expected]
        assert repr(fields[:10] + fields[11:]) == repr(expected[:10] + expected[11:])
        assert 0 <= fields[10] <= expected[10]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("deadline", [None, 0.0, 3.5])
@pytest.mark.parametrize("first", [1, 2**64 - 2])
def test_questions_are_written_alike(run_id, kind, deadline, first):
    """Record, ASKED and bell: the same words, but for the time."""
    with Server.create(run_id), Lane.attach(run_id, SPEC, first_ticket=first, first_frame=first) as lane:
        lane.begin_episode(7, "t")
        for step in range(4):
            echo.frame(lane, 7, step)
        frames = {Kind.DONE: (2, 2), Kind.VALUE: (0, 3), Kind.CRITIC: (1, 3)}[kind]
        slots = [lane._ring.by_step[step] for step in frames]
        seen = []
        for helped in (True, False):
            if not helped:
                lane._asking._quick_ask = None
            rings = lane._attachment.rings
            ticket = lane._asking.ask(kind, *slots, 3 if kind is Kind.VALUE else 1, deadline)
            lane._asking._value = None
            at = lane._memory.question_base + (ticket % SPEC.question_slots) * QuestionWord.COUNT
            record = lane._memory.words[at : at + QuestionWord.COUNT].tolist()
            until = record.pop(QuestionWord.DEADLINE_NS)
            asked_ns = record.pop(QuestionWord.ASKED_NS)
            assert until == (0 if deadline is None else asked_ns + int(deadline * 1e9))
            assert record.pop(0) == ticket == lane._memory.words[hostile.WORDS + WorkerWord.ASKED]
            assert lane._attachment.rings == rings + 1 == lane._attachment.bells[lane.index]
            seen.append(record)
        assert seen[0] == seen[1]


def test_wrong_arguments_are_refused():
    """Never a crash: a number for a buffer, too few arguments, places outside the memory."""
    words = memoryview(bytearray(8 * 256)).cast("Q")
    for call, arguments in [
        (HELPER.sleep, (1,)), (HELPER.glance, (1, 2, 3)), (HELPER.glance, (words, words, "x")), (HELPER.take, (words,)),
        (HELPER.take, (1, 2, 0, 8, 9, 0, 0, 0, 0, 0, None, "", Kind.DONE)), (HELPER.collect, (words, (1, 2), OK)),
        (HELPER.collect, (words, ("a",) * 8, OK)),
    ]:  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            call(*arguments)
    for at, lane in [(241, 0), (2**64 - 1, 0), (0, 256), (0, 2**64 - 1)]:
        with pytest.raises(IndexError):
            HELPER.ask(words, words, at, 1, lane, 1, -1, *range(8))
    for at in (0, 240, 2**40, 2**64 - 1):
        assert HELPER.take(words, words, 2**64 - 1, 8, 9, at, at, at, 0, 0, None, "", Kind.DONE) is None
    assert HELPER.collect(words, (1, Kind.DONE, 1, 1, (0,), 1, 250, 0), OK) is None
    assert not HELPER.glance(words, bytes(words), 0)
    assert HELPER.glance(words, struct.pack("@Q", 1), 0)
    assert math.isnan(HELPER.collect(nan(words), (1, Kind.DONE, 1, 1, (0,), 1, 0, 0), OK)[5])


def nan(words: memoryview) -> memoryview:
    VERDICT.pack_into(words, 0, 1, 0, 1, 1, math.nan, 0.5, 1, 0, 0, 1, 0, 0)
    return words
