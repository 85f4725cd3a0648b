"""One trajectory of a dataset, whatever the layout it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evo_vlac.errors import DatasetError, OptionError


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """camera: its name, or part of it (default: the first that is no wrist camera). task: replaces the dataset's own
    instructions. limit: trajectories at most. fps: frames a second at most. episode: only this one, by its name or
    number. labels: False: of the data only pictures, times and instructions are read; whatever it says about success,
    dones, kinds, states or positions is not looked at, be it wrong or missing.
    """

    camera: str | None = None
    task: str | None = None
    limit: int | None = None
    fps: float | None = None
    episode: str | None = None
    labels: bool = True

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"limit is {self.limit}; at least 1 is needed")
        if self.fps is not None and not self.fps > 0:
            raise OptionError(f"fps is {self.fps}; more than 0 is needed")
        if self.task is not None and not self.task.strip():
            raise OptionError("task is empty; leave it out to use the dataset's own")

    def wants(self, number: int, *names: str) -> bool:
        """Whether the episode with this number and these names is asked for."""
        return self.episode is None or self.episode in (str(number), *names)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode with its pictures.

    Attributes:
        frames: N of them, each uint8 (H, W, 3), upright RGB.
        fps: frames a second.
        dones: whether the task is done at each frame, where the data says so.
        success: whether the episode achieved its task; None where the data does not say.
        kind, seed: what was to happen in the episode and its seed, where they were recorded.
        actions: (N - 1, A) float32. proprio: (N, P) float32. objects: by name, (N, 3) float32, metres.
        source_frames, seconds: the number of each frame in the episode as it was recorded, and its time since that
            one's start (not given: all of them, at ``fps``).
    """

    name: str
    task: str
    frames: Sequence[npt.NDArray[np.uint8]]
    fps: float = 5.0
    dones: tuple[bool, ...] | None = None
    success: bool | None = None
    kind: str = "unknown"
    seed: int = -1
    actions: npt.NDArray[np.float32] | None = None
    proprio: npt.NDArray[np.float32] | None = None
    objects: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    source_frames: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.source_frames:
            object.__setattr__(self, "source_frames", tuple(range(len(self.frames))))
        if not self.seconds:
            object.__setattr__(self, "seconds", tuple(i / self.fps for i in self.source_frames))
        if not len(self.frames):
            raise DatasetError(f"{self.name}: no frames")
        first = self.frames[0]
        if first.dtype != np.uint8 or first.ndim != 3 or first.shape[-1] != 3:
            raise DatasetError(f"{self.name}: frames are {first.dtype} {first.shape}; needed: uint8 (H, W, 3)")
        if not self.task.strip():
            raise DatasetError(f"{self.name}: the task is empty; give one (--task)")
        if self.dones is not None and len(self.dones) != len(self.frames):
            raise DatasetError(f"{self.name}: {len(self.dones)} done flags for {len(self.frames)} frames")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def first_done(self) -> int | None:
        """The first frame that is done; None without one or without flags."""
        return self.outline().first_done

    def outline(self) -> Outline:
        """The trajectory without its pictures. Where the data does not say, it succeeded: it is a demonstration."""
        return Outline(self.name, self.task, len(self), self.dones, self.success is not False, self.kind, self.proprio)

    def take(self, indices: Sequence[int]) -> Trajectory:
        """The trajectory of these frames only; without actions, which lead from one frame to the next."""
        if list(indices) == list(range(len(self))):
            return self
        return replace(
            self,
            frames=[self.frames[i] for i in indices],
            dones=None if self.dones is None else tuple(self.dones[i] for i in indices),
            actions=None,
            proprio=None if self.proprio is None else self.proprio[list(indices)],
            objects={name: places[list(indices)] for name, places in self.objects.items()},
            source_frames=tuple(self.source_frames[i] for i in indices),
            seconds=tuple(self.seconds[i] for i in indices),
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """A trajectory without its pictures: what labels are made of. ``length`` is its number of frames."""

    name: str
    task: str
    length: int
    dones: tuple[bool, ...] | None
    success: bool
    kind: str = "unknown"
    proprio: npt.NDArray[np.float32] | None = None

    @property
    def first_done(self) -> int | None:
        """The first frame that is done; None without one or without flags."""
        return self.dones.index(True) if self.dones is not None and True in self.dones else None

    @property
    def end(self) -> int | None:
        """The frame a success ends at: the first done one, or the last; None for a failure or one done at its start."""
        end = self.first_done if self.dones is not None else (self.length - 1 if self.success else None)
        return end or None

    @property
    def done_until(self) -> int | None:
        """The last frame of the unbroken stretch of success that starts at ``end``."""
        end = self.end
        if end is None or self.dones is None:
            return end
        after = self.dones[end:]
        return end + after.index(False) - 1 if False in after else self.length - 1
