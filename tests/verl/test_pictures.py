"""Pictures that nobody has put together: rows where they lie, as an array to their reader."""

from __future__ import annotations

import numpy as np
import pytest

from verl.pictures import Pictures

ARRAYS = [np.random.default_rng(i).integers(0, 255, (3 + i, 2, 4, 4, 3), np.uint8) for i in range(2)]
TOGETHER = np.concatenate(ARRAYS)


def test_they_are_the_arrays_one_after_the_other() -> None:
    """Numbers, slices and positions as of an array; again of Pictures."""
    made = Pictures.of(ARRAYS)
    order = np.array([6, 0, 3, 3])
    assert made.shape == TOGETHER.shape and len(made) == 7 and made.row_bytes == 96
    assert np.array_equal(np.asarray(made), TOGETHER)
    assert np.array_equal(np.asarray(made[order]), TOGETHER[order]) and np.array_equal(made[5], TOGETHER[5])
    assert np.array_equal(np.asarray(made[2:][order[1:]]), TOGETHER[2:][order[1:]])
    assert np.array_equal(np.asarray(Pictures.of([made, ARRAYS[0]])), np.concatenate([TOGETHER, ARRAYS[0]]))


def test_nothing_is_copied_but_by_who_reads_them() -> None:
    made = Pictures.of(ARRAYS)[np.array([4, 1])]
    assert np.shares_memory(made[0], ARRAYS[1]) and np.shares_memory(made[1], ARRAYS[0])
    assert np.asarray(made[:0]).shape == (0, 2, 4, 4, 3)


def test_one_that_is_not_here_cannot_be_read() -> None:
    """Never black instead: a learner would learn from it."""
    absent = Pictures.absent(TOGETHER)
    assert absent.shape == TOGETHER.shape
    with pytest.raises(LookupError, match="was not given"):
        np.asarray(absent[2:3])
