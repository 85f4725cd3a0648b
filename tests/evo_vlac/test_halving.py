"""Batches shrink where memory ends; a failure stays with the item that causes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_vlac.engine import Answer
from evo_vlac.halving import HalvingBatches


def engine(room: int, bad: frozenset[int] = frozenset()) -> tuple[HalvingBatches[int], list[int]]:
    """Batches over something with room for ``room`` items that does not like ``bad``; and the sizes it was given."""
    sizes: list[int] = []

    def run(items: list[int]) -> list[Answer]:
        sizes.append(len(items))
        if len(items) > room:
            raise MemoryError("no room")
        if bad & set(items):
            raise ValueError("bad item")
        return [Answer(str(item)) for item in items]

    return HalvingBatches(run, 16), sizes


@given(st.integers(0, 40), st.integers(1, 20), st.frozensets(st.integers(0, 39)))
def test_every_item_is_answered_in_order(count: int, room: int, bad: frozenset[int]) -> None:
    """Whatever fits and whatever fails: bad items get an error, all others their own answer."""
    batches, sizes = engine(room, bad)
    answers = batches.answer(range(count))
    assert [answer.text for answer in answers] == ["" if i in bad else str(i) for i in range(count)]
    assert all((answer.error is not None) == (i in bad) for i, answer in enumerate(answers))
    assert len(sizes) <= 2 * count


def test_the_limit_grows_again_where_asked() -> None:
    """After so many calls without trouble, doubled, and never over the largest batch."""
    batches: HalvingBatches[int] = HalvingBatches(lambda items: [Answer("")] * len(items), 16, grow_after=2)
    batches.limit = 4
    for _ in range(4):
        batches.answer([1])
    assert batches.limit == 16


def test_what_is_passed_on_is_not_split() -> None:
    """It reaches the caller from the first batch."""
    seen: list[int] = []

    def run(items: list[int]) -> list[Answer]:
        seen.append(len(items))
        raise TimeoutError("stuck")

    with pytest.raises(TimeoutError):
        HalvingBatches(run, 8, passed_on=(TimeoutError,)).answer(range(8))
    assert seen == [8]


def test_too_few_answers_are_errors() -> None:
    """Nobody gets the answer of another question."""
    batches: HalvingBatches[int] = HalvingBatches(lambda items: [Answer("1")], 8)
    assert all("1 answers for 3" in str(answer.error) for answer in batches.answer(range(3)))
