"""Questions as the bridge hands them over, without a bridge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo_vlac.engine import Image
from shm_bridge import Kind


def picture(step: int, size: int = 16) -> Image:
    """The frame of a step, which tells it by its colour."""
    return np.full((size, size, 3), step % 256, np.uint8)


@dataclass(frozen=True)
class FakeQuestion:
    """What the sidecar reads of a :class:`shm_bridge.Question`. Frames are numbered as their steps."""

    kind: Kind
    steps: tuple[int, ...]
    lane: int = 0
    name: str = "env-0"
    generation: int = 1
    episode: int = 2
    task: str = "lift the red cube"
    asked_ns: int = 5_000
    deadline_ns: int = 0
    size: int = 16
    cameras: tuple[str | None, ...] = (None, "wrist")

    def images(self, camera: str | None = None) -> tuple[Image, ...]:
        if camera not in self.cameras:
            raise KeyError(camera)
        return tuple(picture(step + 100 * self.cameras.index(camera), self.size) for step in self.steps)

    @property
    def frame_keys(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((self.lane, self.generation, step) for step in self.steps)


def question(kind: Kind, steps: Sequence[int], **more: Any) -> Any:
    """A question about the frames of ``steps``."""
    return FakeQuestion(kind, tuple(steps), **more)


def shown(images: Sequence[Any]) -> list[int]:
    """Which steps the images are of."""
    return [int(np.asarray(image)[0, 0, 0]) for image in images]


def clock(now: int = 0) -> Callable[[], int]:
    """A clock that stands still."""
    return lambda: now
