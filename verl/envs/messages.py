"""What the pool is asked for, what it answers, and what goes over the wire to an environment's process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Observation:
    """An environment waits for the next chunk of actions.

    Attributes:
        step: environment steps taken so far.
        frames: read-only upright views (H, W, 3) uint8 by camera, into the environment's own buffers: good until the
            episode's end has been taken from the pool.
        proprio: (8,) float32.
    """

    env: int
    episode: int
    chunk: int
    step: int
    frames: dict[str, np.ndarray]
    proprio: np.ndarray
    instruction: str


# --- over the wire: parent to process, beside EpisodeRequest


@dataclass(frozen=True, slots=True)
class Act:
    """Actions (chunk, 7) float32 for ``episode``."""

    episode: int
    actions: np.ndarray


@dataclass(frozen=True, slots=True)
class Close:
    pass


# --- process to parent, beside EpisodeEnd and EpisodeLost


@dataclass(frozen=True, slots=True)
class Ready:
    """The simulator stands. ``lanes``: names of the lanes through which the critic is asked from here. ``renderer``:
    what it was drawn with, ``renderer_warning``: what is wrong with that; None where nobody knows, or nothing is."""

    lanes: tuple[str, ...]
    renderer: str | None = None
    renderer_warning: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """An observation: the first camera's frame in slot ``slot`` of lane number ``lane``, or (None) of the plain buffer,
    the others' in slot ``step`` of the plain buffer.
    """

    episode: int
    chunk: int
    step: int
    lane: int | None
    slot: int
    proprio: np.ndarray
    instruction: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Still at it: sent at least every second while the process works or waits for the critic."""


@dataclass(frozen=True, slots=True)
class PlayedOut:
    """The episode's last step was taken; it ends when its verdicts are there. The next one may begin."""

    episode: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The process cannot go on. ``error`` is an instance of a class of ``verl.errors`` or the text of another.

    ``traceback``: of another; what a class of ours says needs none.
    """

    error: Any
    traceback: str = ""
