"""Prompts are the published ones, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_vlac import prompts
from evo_vlac.errors import PromptError

PAIR = (
    "Image-1: <image>\nImage-2: <image>\nCompare two images and evaluate whether the second image is closer to "
    "achieving task objectives compared to the first image. + score means the second image is closer, - score means "
    "the first image is closer\nResponse the relative progressing of target task follow <score>. The target task is: "
    "<task> lift </task> <score>"
)


def test_pair_prompt_is_the_published_one() -> None:
    """The plain pair question has exactly the bytes the checkpoints were trained on."""
    assert prompts.critic("lift") == PAIR


def test_reference_prompt_puts_the_trajectory_directly_in_front() -> None:
    """References are labelled by their share of the way, and nothing stands between them and the question."""
    text = prompts.critic("lift", references=3)
    opening = "<trajectory> <task> lift </task>: 0% <image>\n 50% <image>\n 100% <image>\n</trajectory>0% <image>\n"
    assert text.startswith(opening + "This image is the trajectory beginning of the following two images\nImage-1:")
    assert text.endswith(PAIR.split("Image-2")[1])


def test_one_reference_is_labelled_as_the_goal() -> None:
    """A single reference frame divides nothing by zero: it is the end of the way."""
    assert ": 100% <image>\n</trajectory>" in prompts.critic("lift", references=1)


def test_think_suffix_comes_after_the_question() -> None:
    """Asking for reasoning appends, and changes nothing else."""
    assert prompts.critic("lift", think=True) == PAIR + (
        " Please give reasoning process enclosed within <think> reasoning process here </think>."
    )


@given(st.text(min_size=1).filter(lambda t: t.strip() and "<image>" not in t))
def test_slots_take_any_text_as_it_is(task: str) -> None:
    """Braces, quotes, any script: the task stands in the prompt unchanged, once per slot."""
    assert f"<task> {task} </task>" in prompts.fill("done", task)
    assert prompts.fill("done_goal_image", task, task).count(f"<task> {task} </task>") >= 2


@pytest.mark.parametrize("task", ["", "  ", "\n", "a <image> b"])
def test_bad_tasks_are_refused(task: str) -> None:
    """An empty task, or one that would add an image, is an error that names the prompt."""
    with pytest.raises(PromptError, match="done"):
        prompts.fill("done", task)


def test_unknown_kinds_and_wrong_slots_are_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(PromptError, match="critic_with_reference"):
        prompts.fill("nothing", "x")
    with pytest.raises(PromptError, match="slots"):
        prompts.fill("done")
    with pytest.raises(PromptError, match="at least 1"):
        prompts.trajectory(0, "x")


def test_state_and_views() -> None:
    """A state has seven numbers, a prompt one to three views."""
    assert prompts.state([1, 2, 3, 4, 5, 6, 0.5]) == (
        "{x: 1mm, y: 2mm, z: 3mm, roll: 4 degrees, pitch: 5 degrees, yaw: 6 degrees, open: 0.5}"
    )
    assert prompts.views(3).count("<image>") == 3
    for count in (0, 4):
        with pytest.raises(PromptError, match="views"):
            prompts.views(count)
    with pytest.raises(PromptError, match="7 numbers"):
        prompts.state([1])


def test_kinds_are_the_files_keys() -> None:
    """Every prompt of the file can be asked for by its key."""
    assert {"critic", "done", "vqa", "action", "task_description"} <= set(prompts.kinds())
