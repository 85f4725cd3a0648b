"""What a question becomes: queries for the engine, how urgent they are; and what their answers become."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evo_vlac.engine import Answer
from shm_bridge import Kind, Status
from sidecar.batcher import Priority
from sidecar.config import Config
from sidecar.desk import Desk, Verdict


def question(kind: Kind, steps: tuple[int, ...]) -> Any:
    """As the bridge hands it over; frames that differ by step."""
    frames = [np.full((16, 16, 3), step, np.uint8) for step in steps]
    return SimpleNamespace(
        kind=kind,
        steps=steps,
        lane=0,
        generation=1,
        episode=2,
        task="lift the red cube",
        asked_ns=5,
        deadline_ns=0,
        images=lambda camera: frames,
        frame_keys=[(0, 1, 2)] * len(steps),
    )


@pytest.mark.parametrize(
    ("kind", "steps", "count", "priority"),
    [
        (Kind.DONE, (7,), 1, Priority.WAITED_FOR),
        (Kind.VALUE, (0, 4, 8, 9), 3, Priority.WAITED_FOR),
        (Kind.CRITIC, (0, 9), 1, Priority.ANSWER),
    ],
)
def test_what_an_episode_waits_for_is_urgent(
    kind: Kind, steps: tuple[int, ...], count: int, priority: Priority
) -> None:
    """An episode ends with its value list: dones of others, asked later, must not keep it waiting."""
    desk = Desk(Config(run_id="desk", engine="fixed"), (), lambda: 0)
    works, verdict = desk.open(question(kind, steps))
    assert verdict is None and [work.priority for work in works] == [priority] * count
    assert {work.asked_ns for work in works} == {5}


Said = str | None


def answered(kind: Kind, steps: tuple[int, ...], said: Sequence[Said]) -> Verdict:
    """The verdict when the queries are answered so: a text, None for an error of the engine."""
    desk = Desk(Config(run_id="desk", engine="fixed"), (), lambda: 0)
    works, verdict = desk.open(question(kind, steps))
    assert verdict is None and len(works) == len(said)
    for i, (work, text) in enumerate(zip(works, said)):
        answer = Answer("", error="HTTP 503: busy") if text is None else Answer(text)
        verdict = desk.settle(work.item, answer, 1, 1, 1)
        assert (verdict is None) == (i < len(works) - 1)
    assert verdict is not None
    return verdict


STEPS = (0, 4, 8, 12, 16)


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (("+10", "+10", "+10", "+10"), [0, 10, 19, 27.1, 34.39]),
        (("?", "+10", "+10", "+10"), [0, 0, 10, 19, 27.1]),
        (("+10", "well", "+10", "+10"), [0, 10, 10, 19, 27.1]),
        (("?", "+10", "?", "+10"), [0, 0, 10, 10, 19]),
    ],
)
def test_an_unreadable_pair_is_a_hole_over_which_the_value_stays(said: tuple[str, ...], values: list[float]) -> None:
    """The last pair and half of all can be read: the list counts, and says how many holes it has."""
    verdict = answered(Kind.VALUE, STEPS, said)
    holes = sum(text[0] != "+" for text in said)
    assert (verdict.valid, verdict.status, verdict.unreadable) == (True, Status.OK, holes)
    assert verdict.values is not None and verdict.values.tolist() == pytest.approx(values)
    assert verdict.value == pytest.approx(values[-1]) and verdict.probability == 1 - holes / 4
    assert verdict.text == next((text for text in said if text[0] != "+"), "")


@pytest.mark.parametrize("said", [("+10", "+10", "+10", "?"), ("?", "?", "?", "+10"), ("?", "?", "?", "?")])
def test_a_list_without_its_last_or_most_pairs_is_invalid(said: tuple[str, ...]) -> None:
    """Its reward would rest on what nobody said; the numbers are there to be looked at."""
    verdict = answered(Kind.VALUE, STEPS, said)
    assert (verdict.valid, verdict.status, verdict.text) == (False, Status.INVALID, "?")
    assert verdict.values is not None and len(verdict.values) == 5 and np.isnan(verdict.value)


@pytest.mark.parametrize("said", [("+10", None, "+10", "+10"), (None, "?", "?", "?"), ("?", "+10", "+10", None)])
def test_a_list_with_a_pair_that_got_no_answer_has_failed(said: tuple[Said, ...]) -> None:
    """An outage is no unreadable answer, however many of these there are beside it; the reason is kept."""
    verdict = answered(Kind.VALUE, STEPS, said)
    assert (verdict.valid, verdict.status, verdict.text) == (False, Status.FAILED, "HTTP 503: busy")
    assert verdict.values is None


@pytest.mark.parametrize(("kind", "steps"), [(Kind.DONE, (7,)), (Kind.CRITIC, (0, 9))])
def test_statuses_stay_apart(kind: Kind, steps: tuple[int, ...]) -> None:
    """A text that cannot be read is INVALID with the text; no answer is FAILED with the reason."""
    unread, failed = answered(kind, steps, ["gar-bage"]), answered(kind, steps, [None])
    assert (unread.valid, unread.status, unread.text) == (False, Status.INVALID, "gar-bage")
    assert (failed.valid, failed.status, failed.text) == (False, Status.FAILED, "HTTP 503: busy")
    assert unread.images and not failed.images


@pytest.mark.parametrize(("kind", "steps"), [(Kind.DONE, (7,)), (Kind.CRITIC, (0, 9)), (Kind.VALUE, (0, 4))])
@pytest.mark.parametrize("text", [1, ["1"], None])
def test_an_answer_that_breaks_its_reading_fails_alone(kind: Kind, steps: tuple[int, ...], text: Any) -> None:
    """Whatever an engine hands over, the desk answers the question and goes on."""
    desk = Desk(Config(run_id="desk", engine="fixed"), (), lambda: 0)
    works, _ = desk.open(question(kind, steps))
    verdict = desk.settle(works[0].item, Answer(text), 1, 1, 1)
    assert verdict is not None and verdict.status is Status.FAILED and "cannot be read" in verdict.text
