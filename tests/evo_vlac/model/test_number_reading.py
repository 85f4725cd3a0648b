"""Reading a number token by token agrees with evo_vlac's reading of the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_vlac.engine import Answer
from evo_vlac.model.number_reading import NumberTokens, Reading, read
from evo_vlac.parsing import parse_critic

PIECES = ["+", "-", "1", "33", "0", ".", "5", "%", " ", "</score>", "<", "/", "x", "\n", "abc", ">", "\u2212"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_number_is_given_up(pieces: list[str]) -> None:
    """If the whole text is a number to the parser, no beginning of it was called NOT; stopping early loses nothing."""
    text = "".join(pieces)
    parsed = parse_critic(Answer(text))
    if parsed.valid:
        assert read(text) is Reading.NUMBER
        for i in range(len(pieces)):
            assert read("".join(pieces[:i])) is not Reading.NOT


@pytest.mark.parametrize("text", ["abc", "+x", "1 2", "--3", "33 percent", "+33</score>1", ".5"])
def test_what_is_no_number_is_known_at_once(text: str) -> None:
    """These will not become numbers whatever follows."""
    assert read(text) is Reading.NOT


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_forced_tokens_always_give_a_number(data: st.DataObject) -> None:
    """However the model chooses among the allowed tokens, what comes out is a number of at most three digits, a dot and
    one more."""
    texts = dict(enumerate(["+", "-", " +", *"0123456789", ".", "<end>", "word", "12"]))
    tokens = NumberTokens(texts, [14])
    text = ""
    for _ in range(12):
        chosen = data.draw(st.sampled_from(tokens.allowed(text)))
        if chosen == 14:
            break
        text += texts[chosen]
    else:
        pytest.fail(f"no end in sight: {text!r}")
    assert read(text) is Reading.NUMBER
