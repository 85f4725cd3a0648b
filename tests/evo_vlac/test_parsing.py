"""What cannot be read is never a number; what can be is read exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_vlac.engine import Answer, TokenInfo
from evo_vlac.errors import OptionError
from evo_vlac.parsing import (
    done_probability,
    parse_action,
    parse_critic,
    parse_done,
    parse_in_context_done,
    parse_task,
    rich_text,
)


def token(text: str, *alternatives: tuple[str, float]) -> TokenInfo:
    """A token with its alternatives as probabilities."""
    top = tuple((t, math.log(p)) for t, p in alternatives) or ((text, 0.0),)
    return TokenInfo(text, dict(top).get(text, 0.0), top)


def test_done_is_the_share_of_one() -> None:
    """P(1) / (P(0) + P(1)), whatever the rest of the vocabulary took."""
    answer = Answer("1", (token("1", ("1", 0.6), ("0", 0.2), ("x", 0.2)),))
    result = parse_done(answer, threshold=0.5)
    assert result.valid and result.done and result.probability == pytest.approx(0.75)


def test_the_threshold_is_strict() -> None:
    """A probability of exactly the threshold is not done."""
    answer = Answer("1", (token("1", ("1", 0.5), ("0", 0.5)),))
    assert not parse_done(answer, threshold=0.5).done


def test_done_without_probabilities_is_the_text() -> None:
    """An engine without log-probabilities still gives verdicts."""
    assert parse_done(Answer("1")).done and parse_done(Answer("0")).probability == 0.0


@pytest.mark.parametrize("text", ["", "yes", "10", "2", "1 2", "-1", "0.5", "None", "1e9", "nan", "inf", "١"])
def test_unreadable_done_is_never_a_number(text: str) -> None:
    """Not valid, not done, no probability; the text is kept."""
    result = parse_done(Answer(text, (token("1", ("1", 0.9)),)))
    assert not result.valid and not result.done and math.isnan(result.probability) and result.text == text


def test_failed_queries_are_invalid() -> None:
    """An engine's error is carried along."""
    for result in (parse_done(Answer("1", error="boom")), parse_critic(Answer("1", error="boom"))):
        assert not result.valid and result.error == "boom"


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 2.0])
def test_impossible_thresholds_are_refused(threshold: float) -> None:
    """A threshold under which or over which nothing can be is an error."""
    with pytest.raises(OptionError, match="threshold"):
        parse_done(Answer("1"), threshold)


def test_blank_tokens_in_front_do_not_decide() -> None:
    """Some tokenizers begin an answer with a blank piece."""
    tokens = (token(" ", (" ", 1.0)), token("0", ("0", 0.9), ("1", 0.1)))
    assert done_probability(tokens) == pytest.approx(0.1)
    assert math.isnan(done_probability([]))
    assert math.isnan(done_probability([token("x", ("x", 1.0))]))


@given(st.integers(-100, 100), st.sampled_from(["", " ", "%", "\n", "</score>"]))
def test_whole_percentages_are_read_with_their_sign(number: int, tail: str) -> None:
    """Every percentage there is, with and without a plus."""
    for text in {f"{number}", f"{number:+d}"}:
        result = parse_critic(Answer(text + tail))
        assert result.valid and result.value == number


@given(st.text())
def test_any_text_is_a_percentage_or_invalid(text: str) -> None:
    """Nothing a model can say raises, and what is valid lies within -100 and 100."""
    result = parse_critic(Answer(text))
    assert (result.valid and abs(result.value) <= 100) or (not result.valid and math.isnan(result.value))


@pytest.mark.parametrize(
    "text", ["", "+", "12 apples", "1.02.0", "101", "-1000", "1e5", "nan", "5 5", "+-3", "--2", "٣"]
)
def test_unreadable_critics_are_never_numbers(text: str) -> None:
    """Two numbers, words, percentages over 100: invalid."""
    assert not parse_critic(Answer(text)).valid


def test_a_typographic_minus_is_a_minus() -> None:
    """U+2212 means what it looks like."""
    assert parse_critic(Answer("\u22127")).value == -7


def test_rich_numbers_of_two_digit_tokens_stay_one_number() -> None:
    """Digits join by their decimal places: 1 and 2 are 12-ish, not "1.02.0"."""
    tokens = (token("+"), token("1", ("1", 0.9), ("2", 0.1)), token("2", ("2", 0.5), ("3", 0.5)))
    answer = Answer("+12", tokens)
    assert rich_text(answer) == "+13.5"  # 1.1 tens and 2.5
    assert parse_critic(answer, rich=True).value == 13.5


def test_rich_drops_alternatives_under_a_tenth_of_the_best() -> None:
    """Noise in the tail is no opinion."""
    assert rich_text(Answer("5", (token("5", ("5", 0.9), ("9", 0.08)),))) == "5.0"
    assert rich_text(Answer("5", (token("5", ("5", 0.8), ("9", 0.2)),))) == "5.8"


def test_rich_reads_fractions_and_words() -> None:
    """A dot between digits belongs to the number; words around it stay."""
    tokens = (token("about"), token(" "), token("0"), token("."), token("5"), token("!"))
    assert rich_text(Answer("about 0.5!", tokens)) == "about 0.5!"
    assert rich_text(Answer("7")) == "7"


def test_rich_weighs_other_lengths_only_where_the_number_is_one_token() -> None:
    """ "8" may be meant where "12" was said; but within a longer number it would belong to another place."""
    one = Answer("12", (token("12", ("12", 0.5), ("8", 0.5)),))
    assert rich_text(one) == "10.0"
    two = Answer("123", (token("1", ("1", 1.0)), token("23", ("23", 0.5), ("4", 0.5))))
    assert rich_text(two) == "123.0"


@given(st.lists(st.sampled_from("0123456789"), min_size=1, max_size=3))
def test_rich_of_a_certain_model_is_the_number_itself(digits: list[str]) -> None:
    """With all probability on what was said, rich changes nothing."""
    text = "".join(digits)
    assert float(rich_text(Answer(text, tuple(token(d) for d in digits)))) == float(text)


def test_think_answers_carry_both_percentages() -> None:
    """The number after </think>, and the way of both images."""
    text = "<think> first image progressing: 20% second image progressing: 45.5% </think> +31"
    result = parse_critic(Answer(text), think=True)
    assert (result.value, result.before, result.after) == (31, 20, 45.5)
    done = parse_in_context_done(Answer(text), threshold=0.4)
    assert done.valid and done.done and done.value == pytest.approx(0.455)


@pytest.mark.parametrize("text", ["+31", "<think> nothing </think> x", "second image progressing: 400% </think> 3"])
def test_broken_think_answers_are_invalid(text: str) -> None:
    """Without the marks, or with a way of 400 %, there is no verdict."""
    assert not parse_in_context_done(Answer(text)).valid
    assert not parse_critic(Answer("+31"), think=True).valid


def test_the_probability_of_an_answer_is_that_of_its_tokens() -> None:
    """The product over the tokens."""
    tokens = (token("+", ("+", 0.5), ("-", 0.5)), token("3", ("3", 0.4), ("4", 0.6)))
    assert parse_critic(Answer("+3", tokens)).probability == pytest.approx(0.2)
    assert math.isnan(parse_critic(Answer("+3")).probability)


def test_actions_are_read_in_both_forms() -> None:
    """The long form and the short; anything else is invalid."""
    long = "{x: -12mm, y: 3mm, z: 4.5mm, roll: 0 degrees, pitch: 1 degrees, yaw: -2 degrees, open: 1}"
    assert parse_action(Answer(long)).action == {
        "x": -12,
        "y": 3,
        "z": 4.5,
        "roll": 0,
        "pitch": 1,
        "yaw": -2,
        "open": 1,
    }
    assert parse_action(Answer("(1 2 3 4 5 6 0.5)")).action["open"] == 0.5
    assert parse_action(Answer("(1, 2, 3, 4, 5, 6, 0)")).valid
    assert not parse_action(Answer("up")).valid
    assert not parse_action(Answer("(1.2.3 2 3 4 5 6 0)")).valid


def test_a_task_ends_at_its_mark() -> None:
    """Text after </task> is dropped."""
    assert parse_task(Answer(" lift the cube </task> and more")) == "lift the cube"
