"""What a question becomes: queries for the engine, and how urgent they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shm_bridge import Kind
from sidecar.batcher import Priority
from sidecar.config import Config
from sidecar.desk import Desk


def question(kind: Kind, steps: tuple[int, ...]) -> Any:
    """As the bridge hands it over; frames that differ by step."""
    frames = [np.full((16, 16, 3), step, np.uint8) for step in steps]
    return SimpleNamespace(
        kind=kind, steps=steps, lane=0, generation=1, episode=2, task="lift the red cube", asked_ns=5, deadline_ns=0,
        images=lambda camera: frames, frame_keys=[(0, 1, 2)] * len(steps),
    )  # fmt: skip


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
