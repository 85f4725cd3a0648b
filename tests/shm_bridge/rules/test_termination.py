"""Exact termination: whatever the order of answers, the outcome is that of a loop that waits after every step."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm_bridge import ConfigError, Verdict
from shm_bridge.rules import DoneRules, Outcome, Termination, asked_steps
from tests.shm_bridge.verdicts import frame_verdict

SCHEDULES = 12_000


def sequential_reference(
    rules: DoneRules, frames: list[int], verdicts: dict[int, Verdict]
) -> tuple[Outcome, int | None]:
    """Asks about one frame, waits for the answer, goes on: slow and plainly right."""
    in_a_row = 0
    for step in frames:
        verdict = verdicts[step]
        if not verdict.valid:
            if rules.invalid == "drop":
                return Outcome.DROP, step
            if rules.invalid == "stop":
                return Outcome.STOP, step
            in_a_row = 0
            continue
        done = verdict.done if math.isnan(verdict.probability) else verdict.probability > rules.threshold
        if not done:
            in_a_row = 0
            continue
        in_a_row += 1
        if in_a_row == rules.hold:
            return Outcome.DONE, step
    return Outcome.OPEN, None


def random_verdict(rng: random.Random) -> Verdict:
    probability = rng.choice([math.nan, 0.1, 0.9, 0.91, 0.95, 1.0])
    return frame_verdict(valid=rng.random() > 0.1, done=rng.random() < 0.4, probability=probability)


def speculative(rules: DoneRules, frames: list[int], verdicts: dict[int, Verdict], rng: random.Random) -> Termination:
    """Steps on while answers are in flight; any answer may arrive at any time after its question, in any order."""
    termination, in_flight, upcoming = Termination(rules), [], list(frames)
    while termination.outcome is Outcome.OPEN and (upcoming or in_flight):
        if upcoming and (not in_flight or rng.random() < 0.6):
            step = upcoming.pop(0)
            termination.asked(step)
            in_flight.append(step)
        else:
            step = in_flight.pop(rng.randrange(len(in_flight)))
            termination.answered(step, verdicts[step])
    return termination


def test_speculation_equals_the_sequential_reference_over_random_schedules() -> None:
    """Over 12,000 random schedules of verdicts and arrivals, outcome and step are the reference's."""
    rng = random.Random(20)
    outcomes = dict.fromkeys(Outcome, 0)
    for _ in range(SCHEDULES):
        rules = DoneRules(0.9, rng.randint(1, 4), rng.choice(["not_done", "not_done", "drop", "stop"]))
        every = rng.choice(["step", "chunk"])
        frames = asked_steps(every, rng.randint(1, 8), rng.randint(1, 40))
        verdicts = {step: random_verdict(rng) for step in frames}
        got = speculative(rules, frames, verdicts, rng)
        assert (got.outcome, got.step) == sequential_reference(rules, frames, verdicts)
        assert got.settled
        outcomes[got.outcome] += 1
    assert min(outcomes.values()) > SCHEDULES // 100, f"the schedules must reach every outcome: {outcomes}"


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_the_cut_never_moves_once_it_is_told(dones: list[bool], hold: int, rng: random.Random) -> None:
    """After the outcome is known, later answers change neither outcome nor step."""
    termination = Termination(DoneRules(hold=hold))
    for step in range(1, len(dones) + 1):
        termination.asked(step)
    order = list(range(1, len(dones) + 1))
    rng.shuffle(order)
    told = None
    for step in order:
        termination.answered(step, frame_verdict(True, dones[step - 1], 1.0 if dones[step - 1] else 0.0))
        if told is not None:
            assert (termination.outcome, termination.step) == told
        elif termination.outcome is not Outcome.OPEN:
            told = (termination.outcome, termination.step)


def test_a_done_behind_an_unanswered_frame_does_not_count_yet() -> None:
    """A done is final only when all earlier frames are answered."""
    termination = Termination(DoneRules())
    for step in (1, 2, 3):
        termination.asked(step)
    assert termination.answered(2, frame_verdict(True, True, 0.99)) is Outcome.OPEN
    assert not termination.settled
    assert termination.answered(1, frame_verdict(True, False, 0.0)) is Outcome.DONE
    assert termination.step == 2
    assert termination.settled, "frame 3 can no longer change anything"


def test_the_threshold_itself_is_not_done() -> None:
    """Done means over the threshold, not at it."""
    termination = Termination(DoneRules(threshold=0.9))
    termination.asked(1)
    assert termination.answered(1, frame_verdict(True, True, 0.9)) is Outcome.OPEN


def test_frames_must_be_asked_in_order() -> None:
    """Asking about an earlier frame after a later one is a mistake of the caller's."""
    termination = Termination(DoneRules())
    termination.asked(5)
    with pytest.raises(ValueError, match="frame 5 asked after frame 5"):
        termination.asked(5)


@pytest.mark.parametrize(
    ("every", "expected"),
    [("step", list(range(1, 21))), ("chunk", [8, 16, 20])],
)
def test_the_last_frame_is_always_asked(every: str, expected: list[int]) -> None:
    """With ``chunk``, an episode whose length is no multiple of the chunk is still judged at its end."""
    assert asked_steps(every, 8, 20) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.5}, "threshold=1.5: must be from 0 to 1"),
        ({"hold": 0}, "hold=0: must be 1 or more"),
        ({"invalid": "maybe"}, "invalid='maybe': allowed are not_done, drop, stop"),
    ],
)
def test_wrong_rules_name_key_and_value(values: dict[str, object], message: str) -> None:
    """A wrong rule is refused when built, with the key, the value and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        DoneRules(**values)  # type: ignore[arg-type]
    assert message in str(caught.value)
