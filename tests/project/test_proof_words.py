"""Which cube is meant: episodes are counted as a training ends them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studies import proof_words


def test_an_episode_ends_at_two_dones_in_a_row_and_the_simulator_says_whether_rightly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By threshold: the first is right at both, the second false at the lower alone; a single done ends nothing."""
    told = {
        "right": ([0.1, 0.9, 0.9], [False, True, True]),
        "false": ([0.6, 0.6, 0.9], [False, False, False]),
        "missed": ([0.9, 0.1, 0.9], [False, False, True]),
    }
    films = [SimpleNamespace(frames=[name] * 3, task=name, dones=dones) for name, (_, dones) in told.items()]

    def done(frames: list[str], task: str) -> list[Any]:
        return [SimpleNamespace(probability=p) for p in told[task][0]]

    monkeypatch.setattr(proof_words, "SwiftEngine", lambda *_, **__: None)
    monkeypatch.setattr(proof_words, "Critic", lambda *_, **__: nullcontext(SimpleNamespace(done=done)))
    monkeypatch.setattr(proof_words, "read_demonstrations", lambda files: films)
    counts = proof_words.judged(Path("model"), [])
    assert counts == {"0.5": {"false": 1, "missed": 1, "right": 1}, "0.8": {"missed": 1, "neither": 1, "right": 1}}
