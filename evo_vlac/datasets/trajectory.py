"""One trajectory of a dataset, whatever the layout it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.errors import DatasetError, OptionError


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """camera: its name, or part of it (default: the first that is no wrist camera). task: replaces the dataset's own
    instructions. limit: trajectories at most. fps: frames a second at most, where the dataset knows its rate.
    """

    camera: str | None = None
    task: str | None = None
    limit: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"limit is {self.limit}; at least 1 is needed")
        if self.fps is not None and not self.fps > 0:
            raise OptionError(f"fps is {self.fps}; more than 0 is needed")
        if self.task is not None and not self.task.strip():
            raise OptionError("task is empty; leave it out to use the dataset's own")


@dataclass(frozen=True, slots=True)
class Trajectory:
    """``frames``: each uint8 (H, W, 3), upright RGB. ``dones``: whether the task is done at each frame, where the data
    says so. ``success``: whether the trajectory achieved its task, None where the data does not say.
    """

    name: str
    task: str
    frames: Sequence[npt.NDArray[np.uint8]]
    fps: float = 5.0
    dones: tuple[bool, ...] | None = None
    success: bool | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        if not len(self.frames):
            raise DatasetError(f"{self.name}: no frames")
        if not self.task.strip():
            raise DatasetError(f"{self.name}: the task is empty; give one (--task)")
        if self.dones is not None and len(self.dones) != len(self.frames):
            raise DatasetError(f"{self.name}: {len(self.dones)} done flags for {len(self.frames)} frames")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def first_done(self) -> int | None:
        """The first frame that is done; None without one or without flags."""
        return self.dones.index(True) if self.dones is not None and True in self.dones else None

    def take(self, indices: Sequence[int]) -> Trajectory:
        """The trajectory of these frames only."""
        dones = None if self.dones is None else tuple(self.dones[i] for i in indices)
        return replace(self, frames=[self.frames[i] for i in indices], dones=dones)


def pick_camera(name: str, cameras: Sequence[str], wanted: str | None) -> str:
    """The camera to use; DatasetError lists what there is."""
    if not cameras:
        raise DatasetError(f"{name}: no camera images")
    if wanted is None:
        outside = [camera for camera in cameras if "wrist" not in camera and "eye_in_hand" not in camera]
        return (outside or list(cameras))[0]
    if wanted in cameras:
        return wanted
    matches = [camera for camera in cameras if wanted in camera]
    if len(matches) != 1:
        raise DatasetError(f"{name}: no camera {wanted!r}; there are: {', '.join(cameras)}")
    return matches[0]


def flags(values: Any, frames: int) -> tuple[bool, ...] | None:
    """Done flags, one a frame. Flags of steps (one fewer than frames) get the last one twice; others do not fit."""
    found = [bool(value) for value in np.asarray(values).reshape(-1)]
    if len(found) == frames - 1 and found:
        found.append(found[-1])
    return tuple(found) if len(found) == frames else None
