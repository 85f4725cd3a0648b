"""What the audit counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from verl.trainer.audit import said_done


@pytest.mark.parametrize(
    ("probabilities", "hold", "done"),
    [
        ([0.1, 0.95, 0.1], 1, True),
        ([0.1, 0.89, 0.1], 1, False),
        ([0.95, 0.1, 0.95], 2, False),
        ([0.1, 0.95, 0.95], 2, True),
        ([0.95, math.nan, 0.95], 2, False),
        ([], 1, False),
    ],
)
def test_an_evaluation_that_the_simulator_ends_has_the_critics_done_by_the_same_rule(probabilities, hold, done):
    """The critic decides nothing there: its done is read from its answers."""
    assert said_done(np.array(probabilities, np.float32), 0.9, hold) is done
