"""Trajectories on disk: robomimic-style HDF5, one group per episode.

/data                 attrs: env_name, task (the instruction)
/data/demo_<i>        attrs: num_samples (T), success, kind, seed, task
    actions           (T, 7) float32
    dones             (T + 1,) bool: the simulator's success at each observation; may be missing in foreign files
    obs/<camera>_image(T + 1, H, W, 3) uint8, upright
    obs/proprio       (T + 1, 8) float32, optional
    objects/<name>    (T + 1, 3) float32, optional: where the simulator had it, in metres
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.errors import DatasetError, OutputError

CAMERA = "agentview"


@dataclass(frozen=True, slots=True)
class Demo:
    """One episode.

    ``frames`` (N, H, W, 3) uint8 upright, ``dones`` (N,) bool or None where the file has no per-frame success.
    """

    name: str
    task: str
    frames: npt.NDArray[np.uint8]
    dones: npt.NDArray[np.bool_] | None
    success: bool
    kind: str = "unknown"
    seed: int = -1
    actions: npt.NDArray[np.float32] | None = None
    proprio: npt.NDArray[np.float32] | None = None
    objects: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise DatasetError(
                f"{self.name}: frames are {self.frames.dtype} {self.frames.shape}, need uint8 (N, H, W, 3)"
            )
        if not len(self.frames):
            raise DatasetError(f"{self.name}: no frames")
        if not self.task.strip():
            raise DatasetError(f"{self.name}: the task is empty")
        if self.dones is not None and self.dones.shape != (len(self.frames),):
            raise DatasetError(
                f"{self.name}: dones are {self.dones.shape}, need one for each of {len(self.frames)} frames"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def outline(self) -> Outline:
        """What labels are made of: everything but the pictures."""
        return Outline(self.name, self.task, len(self), self.dones, self.success, self.kind, self.proprio)

    @property
    def first_done(self) -> int | None:
        """Index of the first frame with the simulator's success; None without one, or without per-frame flags."""
        return self.outline().first_done


@dataclass(frozen=True, slots=True)
class Outline:
    """An episode without its pictures; ``length`` is its number of frames."""

    name: str
    task: str
    length: int
    dones: npt.NDArray[np.bool_] | None
    success: bool
    kind: str = "unknown"
    proprio: npt.NDArray[np.float32] | None = None

    @property
    def first_done(self) -> int | None:
        """Index of the first frame with the simulator's success; None without one, or without per-frame flags."""
        if self.dones is None or not self.dones.any():
            return None
        return int(np.argmax(self.dones))

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
        broken = np.flatnonzero(~self.dones[end:])
        return end + int(broken[0]) - 1 if broken.size else self.length - 1


def read_demos(path: Path, camera: str = CAMERA, task: str | None = None) -> Iterator[Demo]:
    """Episodes of a file, in the order of their numbers; one at a time, so that a large file needs little memory.

    ``task`` replaces the file's instruction. Raises DatasetError naming file, episode and what is missing.
    """
    import h5py

    if not path.is_file():
        raise DatasetError(f"no such demonstration file: {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: not a readable HDF5 file ({error})") from error
    with file:
        if "data" not in file:
            raise DatasetError(f"{path}: no group 'data'; found: {', '.join(file) or 'nothing'}")
        data = file["data"]
        for name in sorted(data, key=_number):
            yield _read(data[name], f"{path.name}/{name}", camera, task, dict(data.attrs))


def _number(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else -1, name)


def _read(group: Any, name: str, camera: str, task: str | None, defaults: dict[str, Any]) -> Demo:
    key = f"obs/{camera}_image"
    if key not in group:
        cameras = [k[:-6] for k in group.get("obs", {}) if k.endswith("_image")]
        raise DatasetError(f"{name}: no camera {camera!r}; there are: {', '.join(cameras) or 'none'}")
    attrs = group.attrs
    dones = np.asarray(group["dones"], dtype=bool) if "dones" in group else None
    instruction = task or str(attrs.get("task", defaults.get("task", "")))
    frames = np.ascontiguousarray(group[key])
    if dones is not None and len(dones) == len(frames) - 1:
        dones = np.append(dones, dones[-1])  # robomimic flags steps, not observations
    success = bool(attrs["success"]) if "success" in attrs else dones is None or bool(dones.any())
    return Demo(
        name=name,
        task=instruction,
        frames=frames,
        dones=dones,
        success=success,
        kind=str(attrs.get("kind", "unknown")),
        seed=int(attrs.get("seed", -1)),
        actions=np.asarray(group["actions"], dtype=np.float32) if "actions" in group else None,
        proprio=np.asarray(group["obs/proprio"], dtype=np.float32) if "obs/proprio" in group else None,
        objects={key: np.asarray(value, dtype=np.float32) for key, value in group.get("objects", {}).items()},
    )


class DemoWriter:
    """Writes episodes to a file that appears, whole, when the ``with`` block ends well."""

    def __init__(self, path: Path, env_name: str, task: str, camera: str = CAMERA) -> None:
        import h5py

        self.path, self.camera, self.count = path, camera, 0
        self._partial = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._partial, "w")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        self._data = self._file.create_group("data")
        self._data.attrs.update(env_name=env_name, task=task)

    def __enter__(self) -> DemoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, demo: Demo) -> None:
        """Append an episode."""
        group = self._data.create_group(f"demo_{self.count}")
        group.attrs.update(
            num_samples=len(demo) - 1, success=demo.success, kind=demo.kind, seed=demo.seed, task=demo.task
        )
        group.create_dataset(
            f"obs/{self.camera}_image", data=demo.frames, chunks=(1, *demo.frames.shape[1:]), compression="lzf"
        )
        for name, array in (("dones", demo.dones), ("actions", demo.actions), ("obs/proprio", demo.proprio)):
            if array is not None:
                group.create_dataset(name, data=array)
        for name, places in demo.objects.items():
            group.create_dataset(f"objects/{name}", data=places)
        self.count += 1


def read_all(paths: Sequence[Path], camera: str = CAMERA, tasks: Sequence[str] = ()) -> Iterator[Demo]:
    """Episodes of several files; ``tasks`` gives one instruction a file, or none to use the files' own."""
    if tasks and len(tasks) != len(paths):
        raise DatasetError(f"{len(tasks)} tasks for {len(paths)} demonstration files; give one a file, or none")
    for index, path in enumerate(paths):
        yield from read_demos(path, camera, tasks[index] if tasks else None)
