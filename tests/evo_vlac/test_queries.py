"""Queries carry the right images in the right order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_vlac import queries
from evo_vlac.engine import Query
from evo_vlac.errors import OptionError, PromptError
from tests.evo_vlac.conftest import TASK, picture

A, B, C, D = (picture(i) for i in range(4))


def test_done_wants_one_token_of_two() -> None:
    """Done is decided by one token, 0 or 1; the image has no mark and is put in front."""
    query = queries.done_query(A, TASK)
    assert query.choices == ("0", "1") and query.max_new_tokens == 1 and query.images == (A,)
    assert query.marked_prompt == "<image>" + query.prompt


def test_references_come_first_and_are_shared() -> None:
    """Reference frames and the first frame are the prefix that an episode's queries share."""
    query = queries.critic_query(A, B, TASK, reference=[C, D], first=A, keys=("c", "d", "a", "a", "b"))
    assert [id(image) for image in query.images] == [id(image) for image in (C, D, A, A, B)]
    assert query.prefix_images == 3 and query.kind == "critic_with_reference"
    assert query.prompt.count("<image>") == 5


def test_references_need_the_first_frame() -> None:
    """Without the first frame of the episode the trained prompt cannot be made."""
    with pytest.raises(PromptError, match="first frame"):
        queries.critic_query(A, B, TASK, reference=[C])


def test_an_empty_reference_list_is_no_reference() -> None:
    """An empty list asks the plain question."""
    assert queries.critic_query(A, B, TASK, reference=[]).kind == "critic"


@given(st.integers(0, 200), st.integers(0, 20))
def test_reference_indices_follow_the_formula(frames: int, wanted: int) -> None:
    """int(i * (n - 1) / (ref_num - 1)); 0 and 1 wanted, and no frames, divide by nothing."""
    indices = queries.reference_indices(frames, wanted)
    if frames == 0 or wanted == 0:
        assert indices == []
    elif wanted == 1:
        assert indices == [frames - 1]
    else:
        assert indices == [int(i * ((frames - 1) / (wanted - 1))) for i in range(wanted)]
        assert indices[0] == 0 and all(0 <= i < frames for i in indices)


def test_negative_reference_counts_are_refused() -> None:
    """A negative ref_num is named."""
    with pytest.raises(OptionError, match="ref_num is -1"):
        queries.reference_indices(3, -1)


def test_goal_queries() -> None:
    """The goal image stands in front; without a task it decides alone."""
    assert queries.done_goal_query(A, B, TASK).prompt.count(TASK) == 2
    assert queries.done_goal_query(A, B, None).kind == "done_goal_image_only"


def test_action_queries() -> None:
    """1 to 3 views; the short form writes the state in brackets; a text state goes in as it is."""
    state = [1, 2, 3, 4, 5, 6, 0]
    assert "<state> (1 2 3 4 5 6 0) </state>" in queries.action_query([A], state, TASK, kind="action_short").prompt
    assert "{x: 1mm" in queries.action_query([A, B], state, TASK).prompt
    assert "<state> none </state>" in queries.action_query([A], "none", TASK, think=True).prompt
    with pytest.raises(OptionError, match="kind is 'jump'"):
        queries.action_query([A], state, TASK, kind="jump")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="7 numbers"):
        queries.short_state([1])


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"top_logprobs": -1},
        {"prompt": "<image><image>"},
        {"image_keys": ("a", "b")},
        {"prefix_images": 2},
    ],
)
def test_impossible_queries_are_refused(changes: dict[str, object]) -> None:
    """A query checks itself when it is built."""
    with pytest.raises((OptionError, PromptError)):
        Query("vqa", "<image>x", (A,), "", 4).with_(**changes)


def test_text_queries_ask_for_text() -> None:
    """Describing and asking take any number of images."""
    assert queries.task_query(A, B).prompt.endswith("<infer> <task>")
    assert queries.vqa_query([], "What is 1 + 1?").prompt == "What is 1 + 1?"
