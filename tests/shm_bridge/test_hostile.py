"""Hostile values in every field that is read from shared memory: errors, quarantine, never a crash or a belief."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_bridge import Kind, Lane, Server, Status
from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.memory.control import ControlRole, open_control
from shm_bridge.memory.layout import FrameWord, QuestionWord, ServerWord, WorkerWord
from tests.shm_bridge import echo, hostile
from tests.shm_bridge.conftest import ROOT, SPEC

pytestmark = pytest.mark.usefixtures("way")

WORD = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 2, 3, 8, 9, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 16),
)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def quarantine():
    """Gives a fresh hostile lane at each call, and takes the one before away: a test has many examples."""
    made = []

    def retire():
        while made:
            name, lane = made.pop()
            lane.close()
            clean_run(name)

    def make() -> hostile.HostileLane:
        retire()
        made.append((name := f"test-{uuid.uuid4().hex[:12]}", hostile.HostileLane(name)))
        return made[-1][1]

    yield make
    retire()
    gc.collect()  # their descriptors: hundreds, which the next tests of this process would find open


@QUIET
@given(changes=st.lists(st.tuples(st.sampled_from(list(WorkerWord)[:-1]), WORD), min_size=1, max_size=4))
def test_hostile_worker_words(quarantine, changes):
    """Counters, episode, task, cancel and parked words: at worst the lane is served no more."""
    lane = quarantine()
    for word, value in changes:
        lane.scribble(hostile.WORDS + word, value)
        lane.serve()
    lane.close()


@QUIET
@given(changes=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(list(QuestionWord)[:-1]), WORD), max_size=6))
def test_hostile_questions(quarantine, changes):
    """Records of questions: impossible ones are refused one by one, the sound lane lives on."""
    lane = quarantine()
    for place, word, value in changes:
        lane.scribble(hostile.RECORDS + place * 16 + word, value)
    lane.scribble(hostile.WORDS + WorkerWord.ASKED, 1 + len(changes))
    lane.serve()
    lane.close()


@QUIET
@given(kind=WORD, first=WORD, last=WORD, stride=WORD, count=WORD, seqs=st.tuples(WORD, WORD))
def test_a_hostile_question_with_a_right_ticket(quarantine, kind, first, last, stride, count, seqs):
    """Announced properly, wrong inside: refused with FAILED, or understood within bounds."""
    lane = quarantine()
    base = hostile.RECORDS + 2 * 16  # ticket 2 lies in place 2
    for word, value in (
        (QuestionWord.KIND, kind),
        (QuestionWord.FIRST, first),
        (QuestionWord.LAST, last),
        (QuestionWord.STRIDE, stride),
        (QuestionWord.COUNT_FRAMES, count),
        (QuestionWord.FIRST_SEQ, seqs[0]),
        (QuestionWord.LAST_SEQ, seqs[1]),
        (QuestionWord.EPISODE, 1),
        (QuestionWord.SEQ, 2),
    ):
        lane.scribble(base + word, value)
    lane.scribble(hostile.WORDS + WorkerWord.ASKED, 2)
    believed = lane.serve()
    assert lane.lane._memory.verdict_seq(2) == 2, "every announced ticket is closed, one way or the other"
    if not believed:
        assert lane.server.lanes == 1
    lane.close()


@QUIET
@given(place=st.integers(0, SPEC.frames - 1), word=st.sampled_from(list(FrameWord)[:-1]), value=WORD)
def test_hostile_frame_records(quarantine, place, word, value):
    """A question about a frame whose record does not say what the question says is refused."""
    lane = quarantine()
    lane.scribble(lane.lane._memory.frame_base + place * 4 + word, value)
    ticket = lane.lane.ask(Kind.DONE, 0)
    lane.serve()
    verdict = lane.lane.wait(ticket, timeout=5)
    if place or word == FrameWord.STEP:
        assert verdict.status is Status.OK
    lane.close()


@QUIET
@given(index=st.integers(0, 3), generation=WORD, bell=WORD)
def test_hostile_rows_of_the_control_segment(quarantine, index, generation, bell):
    """A row that names a lane that is not there is passed over."""
    lane = quarantine()
    control = open_control(lane.lane.run_id, ControlRole.WORKER)
    control.generations[index] = generation
    control.bells[index] = bell
    lane.server.poll()
    lane.server._reap()
    lane.server.poll()
    control.close()
    lane.close()


@QUIET
@given(words=st.lists(WORD, min_size=12, max_size=12))
def test_hostile_verdicts(run_id, words):
    """The worker does not believe the sidecar either: numbers out of range become an invalid verdict."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        lane.begin_episode(1, "t")
        echo.frame(lane, 1, 0)
        ticket = lane.ask(Kind.VALUE, first=0, last=0)
        (question,) = server.poll()
        memory = question.served.memory
        at = memory.verdict_base + (ticket & 7) * 16
        for number, word in enumerate(words[1:], 1):
            memory.verdict_words[at + number] = word
        memory.verdict_words[at] = ticket
        verdict = lane.wait(ticket)
        assert isinstance(verdict.status, Status) and isinstance(verdict.done, bool)
        if verdict.valid:
            assert verdict.status is Status.OK
        else:
            assert not verdict.done
        assert verdict.values is None or len(verdict.values) == 1
        assert isinstance(verdict.value, float) and (math.isnan(verdict.value) or True)


@QUIET
@given(seq=WORD, size=WORD, junk=st.binary(max_size=64))
def test_hostile_metrics(run_id, seq, size, junk):
    """An inspector shows nothing rather than junk."""
    with Server.create(run_id) as server:
        server.publish_metrics(ok=1)
        server._words[ServerWord.METRICS_SEQ] = seq
        server._words[ServerWord.METRICS_BYTES] = size
        server._control.server_part[4096 : 4096 + len(junk)] = junk
        assert isinstance(server._control.metrics(), dict)


@settings(max_examples=400, deadline=None)
@given(block=st.binary(max_size=1200))
def test_headers_of_random_bytes(block):
    """Any bytes at all: a typed error."""
    hostile.parse_anything(block)


@settings(max_examples=800, deadline=None)
@given(block=st.binary(max_size=600))
def test_headers_with_a_right_checksum_and_wrong_fields(block):
    """Behind magic, version, hash and checksum every field is checked again."""
    hostile.parse_sealed(block)


@pytest.mark.slow
def test_coverage_guided_fuzzing():
    """atheris over headers and records."""
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.shm_bridge.hostile", "-runs=100000", "-max_len=1200"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
