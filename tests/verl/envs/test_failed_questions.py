"""The books of what has no reply yet after an outage: no clock and no sidecar needed."""

from __future__ import annotations

import math

import pytest

from shm_bridge import Kind
from verl.envs.failed_questions import LONGEST_PAUSE_S, FailedQuestions


def test_a_failed_question_pauses_twice_as_long_each_time() -> None:
    """0.1, 0.2, 0.4 ... 5 s; it counts from its first asking, and is not due while it is asked again."""
    questions = FailedQuestions()
    pauses = []
    for asking in range(9):
        one = questions.failed(Kind.DONE, 4, since=float(asking), others_answered=False, now=10.0)
        assert questions.due(10.0) == [] and len(questions) == 1
        pauses.append(questions.next_due(10.0))
        assert questions.due(10.0 + pauses[-1]) == [one]
        one.due = math.inf
        assert questions.due(1e9) == [] and questions.next_due(10.0) == math.inf
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S])
    assert (one.since, one.failures, one.alone) == (0.0, 9, 0)


def test_failures_count_against_a_question_only_while_others_are_answered() -> None:
    questions = FailedQuestions()
    alone = [questions.failed(Kind.VALUE, 9, 0.0, others, 0.0).alone for others in (False, True, False, True)]
    assert alone == [0, 1, 1, 2]


def test_what_failed_is_asked_again_in_order_of_steps() -> None:
    questions = FailedQuestions()
    assert questions.due(2.0) == [] and questions.next_due(0.0) == math.inf
    for kind, step in ((Kind.VALUE, 8), (Kind.DONE, 6), (Kind.DONE, 3)):
        questions.failed(kind, step, 0.5, False, 1.0)
    assert [(one.kind, one.step) for one in questions.due(2.0)] == [(Kind.DONE, 3), (Kind.DONE, 6), (Kind.VALUE, 8)]
    assert questions.next_due(1.0) == pytest.approx(0.1) and questions.next_due(5.0) == 0.0
