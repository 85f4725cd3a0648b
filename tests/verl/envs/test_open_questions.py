"""The books of what was asked and has no reply yet: no clock and no sidecar needed."""

from __future__ import annotations

import pytest

from shm_bridge import Kind
from verl.envs.open_questions import LONGEST_PAUSE_S, OpenQuestion, OpenQuestions


def test_a_failed_question_pauses_twice_as_long_each_time() -> None:
    """0.1, 0.2, 0.4 ... 5 s; meanwhile it is open and not in flight."""
    questions, one = OpenQuestions(max_failures=3), OpenQuestion(Kind.DONE, 4, since=0.0)
    pauses = []
    for ticket in range(9):
        questions.asked(ticket, one, served=0)
        assert questions.earliest == ticket and questions.due(1e9) == []
        assert questions.taken(ticket) is one
        assert questions.failed(one, served=0, now=10.0), "nobody else was answered either: it is the sidecar's fault"
        assert questions.any(Kind.DONE) and questions.earliest is None and questions.due(10.0) == []
        pauses.append(questions.next_due(10.0))
        assert questions.due(10.0 + pauses[-1]) == [one]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S])
    assert one.failures == 9 and one.alone == 0


def test_failures_count_against_a_question_only_while_others_are_answered() -> None:
    questions, one = OpenQuestions(max_failures=2), OpenQuestion(Kind.VALUE, 9, 0.0, (0, 9))
    for served_then, served_now, goes_on in [(5, 5, True), (5, 6, True), (6, 6, True), (6, 9, False)]:
        questions.asked(1, one, served_then)
        questions.taken(1)
        assert questions.failed(one, served_now, 0.0) is goes_on


def test_the_earliest_frame_is_waited_for_and_the_oldest_question_is_named() -> None:
    questions = OpenQuestions(max_failures=1)
    questions.asked(7, OpenQuestion(Kind.VALUE, 2, 0.5, (0, 2)), 0)
    questions.asked(8, OpenQuestion(Kind.DONE, 6, 2.0), 0)
    questions.asked(9, OpenQuestion(Kind.DONE, 3, 3.0), 0)
    assert questions.earliest == 9 and questions.oldest is not None and questions.oldest.step == 2
    assert questions.taken(1) is None
    questions.clear()
    assert not questions and questions.oldest is None and questions.next_due(0.0) == float("inf")
