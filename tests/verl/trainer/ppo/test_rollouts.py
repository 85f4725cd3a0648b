"""A rollout of which nothing can be read any more ends the run; one with a bad stretch goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from verl.episode import EpisodeLost, EpisodeRequest
from verl.errors import RunFailedError
from verl.trainer.ppo.rollouts import IN_A_ROW, Rollouts


def play(outcomes: list[str], size: int = 8) -> list[EpisodeLost]:
    """Runs a rollout of ``size`` episodes whose further episodes are asked for as others end; ``x``: dropped."""
    given_up: list[EpisodeLost] = []

    def run(requests: Any, finished: Any, gone: list[EpisodeLost], refill: Any) -> Iterator[Any]:
        for number, outcome in enumerate(outcomes):
            if outcome == "x":
                gone.append(EpisodeLost(EpisodeRequest(number, 0, 0, 0, True), "the reply is unreadable", True))
            else:
                yield SimpleNamespace()
            refill(number)

    rollouts = MagicMock(fleet=SimpleNamespace(run=run))
    rollouts.counts.timed.return_value = nullcontext()
    rollouts.config.critic.invalid = "drop"
    requests = [EpisodeRequest(number, 0, 0, 0, True) for number in range(size)]
    Rollouts._play(rollouts, requests, MagicMock(finished=[], given_up=given_up))
    return given_up


def test_a_bad_stretch_is_survived():
    """As many in a row as a small rollout may lose, then one that counts, then again."""
    assert len(play(["x"] * IN_A_ROW + ["."] + ["x"] * IN_A_ROW)) == 2 * IN_A_ROW


@pytest.mark.parametrize(("size", "most"), [(8, IN_A_ROW), (64, 64)])
def test_more_dropped_in_a_row_than_a_rollout_has_ends_the_run(size, most):
    """And says why: nothing more would be learnt from what is left of the episodes."""
    play(["x"] * most, size)
    with pytest.raises(
        RunFailedError, match=rf"{most + 1} episodes in a row were dropped \(critic.invalid=drop\).*unreadable"
    ):
        play([".", *"x" * (most + 1)], size)
