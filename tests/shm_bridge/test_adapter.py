"""The three-line client: frames arrive as they are, answers belong to them, a restart costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shm_bridge import ConfigError, CriticAdapter, FramesFull, InvalidRequest


def frame(mark: int, shape: tuple[int, int, int] = (16, 24, 3)) -> np.ndarray:
    return np.full(shape, mark, np.uint8)


def test_every_answer_belongs_to_its_frame(run_id: str, sidecar: Callable[..., Any]) -> None:
    """Over several episodes, with contiguous and with flipped frames; the verdict names the step."""
    sidecar()
    with CriticAdapter(run_id, max_steps=6, name="mine") as critic:
        for episode in range(3):
            critic.reset("lift the red cube", frame(0))
            for step in range(1, 7):
                mark = 40 * episode + step
                image = frame(mark) if step % 2 else frame(mark)[::-1, ::-1]
                verdict = critic.done(image)
                assert verdict.valid and verdict.probability == mark / 256
                assert (verdict.episode, verdict.step) == (episode, step)
            assert critic.value(stride=4) == pytest.approx((40 * episode + 6) / 100)


def test_asking_without_waiting(run_id: str, sidecar: Callable[..., Any]) -> None:
    """The simulator steps on; each answer comes once, with its step."""
    sidecar()
    with CriticAdapter(run_id, max_steps=30) as critic:
        critic.reset("task", frame(0))
        seen: list[int] = []
        for step in range(1, 31):
            critic.ask(frame(step))
            seen += [verdict.step for verdict in critic.answers()]
        while len(seen) < 30:
            seen += [verdict.step for verdict in critic.answers()]
        assert sorted(seen) == list(range(1, 31))


def test_a_restarted_sidecar_is_waited_for(run_id: str, sidecar: Callable[..., Any]) -> None:
    """Killed between two steps: the next call returns the answer of the one that took its place."""
    first = sidecar()
    with CriticAdapter(run_id, max_steps=4, timeout=20) as critic:
        critic.reset("task", frame(0))
        assert critic.done(frame(1)).epoch == 1
        first.kill()
        critic.ask(frame(2))
        sidecar()
        verdict = critic.done(frame(3))
        assert (verdict.epoch, verdict.probability) == (2, 3 / 256)


def test_what_is_wrong_is_said(run_id: str, sidecar: Callable[..., Any]) -> None:
    """A typed error for each: order of calls, sizes, types, too many steps."""
    with pytest.raises(ConfigError, match="max_steps=0"):
        CriticAdapter(run_id, max_steps=0)
    sidecar()
    with CriticAdapter(run_id, max_steps=1) as critic:
        with pytest.raises(InvalidRequest, match="reset"):
            critic.done(frame(1))
        with pytest.raises(ConfigError, match="float64"):
            critic.reset("task", np.zeros((16, 24, 3)))
        critic.reset("task", frame(0))
        with pytest.raises(InvalidRequest, match="first step"):
            critic.value()
        with pytest.raises(ConfigError, match=r"\(8, 8, 3\)"):
            critic.done(frame(1, (8, 8, 3)))
        for wrong in (frame(1)[..., :2], frame(1)[..., 0], frame(1).view(np.int8), frame(1).astype(np.float32)):
            with pytest.raises(ConfigError, match="frame of shape"):
                critic.done(wrong)
        assert critic.done(frame(9)).probability == 9 / 256
        critic.reset("task", frame(0))
        critic.done(frame(1))
        with pytest.raises(FramesFull):
            critic.done(frame(2))
