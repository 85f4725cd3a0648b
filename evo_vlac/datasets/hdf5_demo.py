"""One trajectory of a robomimic-style HDF5 file (:mod:`evo_vlac.datasets.hdf5` has the layout)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.datasets.labels import difference, flags_of_frames, rows_of_frames, text_of, truth_of
from evo_vlac.datasets.reading import Reading, pick_camera
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError
from evo_vlac.video.thinning import sample_indices

UPRIGHT, _BOTTOM_UP = "_image", "_rgb"
_FPS = 20.0  # robosuite's usual control frequency
_BROKEN = (OSError, KeyError, AttributeError, IndexError, RuntimeError, TypeError, ValueError)  # what h5py raises


class Rewarded:
    """Whether any trajectory of a file ever gets a reward; looked up once, when it matters."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._known: bool | None = None

    def __bool__(self) -> bool:
        if self._known is None:
            self._known = any(map(self._any, self._data))
        return self._known

    def _any(self, key: str) -> bool:
        try:
            demo = self._data[key]
            return "rewards" in demo and bool(np.nan_to_num(demo["rewards"][()]).any())
        except _BROKEN:
            return False


@dataclass(frozen=True, slots=True)
class StoredDemo:
    """An episode of an open file, whose arrays are read when they are asked for.

    ``data`` and ``key``: where it is stored. ``file_fps`` and ``rewarded``: what the file says of all episodes.
    """

    name: str
    task: str
    data: Any
    key: str
    file_fps: float | None
    rewarded: Rewarded

    @property
    def group(self) -> Any:
        """The HDF5 group."""
        return self.data[self.key]

    @property
    def kind(self) -> str:
        """What was to happen in it; "unknown" where the file does not say."""
        return text_of(self.group.attrs.get("kind")) or "unknown"

    @property
    def success(self) -> bool | None:
        """Whether it achieved its task, where the file says so itself."""
        attrs = self.group.attrs
        return truth_of(attrs["success"]) if "success" in attrs else None

    @property
    def actions(self) -> npt.NDArray[np.float32] | None:
        """(N - 1, A), where there are some."""
        return _floats(self.group, "actions")

    @property
    def proprio(self) -> npt.NDArray[np.float32] | None:
        """(N, P), where there is some."""
        return _floats(self.group, "obs/proprio")

    def frames(self, camera: str | None = None) -> npt.NDArray[np.uint8]:
        """uint8 (N, H, W, 3), upright, of one camera (None: the first that is no wrist camera)."""
        stored, bottom_up = self._pictures(self.group, camera, Reading())
        frames: npt.NDArray[np.uint8] = stored[()]
        return np.ascontiguousarray(frames[:, ::-1]) if bottom_up else frames

    def trajectory(self, options: DatasetOptions, reading: Reading) -> Trajectory:
        """The episode; of its pictures only those that stay are in memory. Raises DatasetError."""
        try:
            if not hasattr(self.group, "keys"):
                raise DatasetError(f"{self.name} is no episode, but an array")
            return self._read(self.group, options, reading)
        except _BROKEN as error:
            raise DatasetError(f"{self.name} cannot be read: {error}") from error

    def _read(self, group: Any, options: DatasetOptions, reading: Reading) -> Trajectory:
        pictures, bottom_up = self._pictures(group, options.camera, reading)
        fps, length = self._fps(options, reading), len(pictures)
        kept = sample_indices(fps, options.fps or fps, length)
        if not options.labels:
            return self._film(pictures, kept, bottom_up, fps, options)
        flags, success = self._labels(group, reading)
        dones = None
        if flags:
            rows = rows_of_frames(kept, [i / fps for i in kept], length, None, len(flags), fps)
            kept, dones = kept[: len(rows)], flags_of_frames(flags, rows, fps)
            if len(flags) not in (length, length - 1):
                reading.chose(difference(length, len(flags)), self.name)
        proprio = self.proprio
        objects = {name: _rows(places, kept, length) for name, places in group.get("objects", {}).items()}
        return Trajectory(
            name=self.name,
            task=options.task or self.task,
            frames=_frames(pictures, kept, bottom_up),
            fps=min(fps, options.fps or fps),
            dones=dones,
            success=success,
            kind=self.kind,
            seed=_seed(group.attrs.get("seed")),
            actions=self.actions if len(kept) == length else None,
            proprio=None if proprio is None else _rows(proprio, kept, length),
            objects={name: places for name, places in objects.items() if places is not None},
            source_frames=tuple(kept),
            seconds=tuple(i / fps for i in kept),
        )

    def _film(
        self, pictures: Any, kept: Sequence[int], bottom_up: bool, fps: float, options: DatasetOptions
    ) -> Trajectory:
        """What a camera would have seen, and no more."""
        return Trajectory(
            name=self.name,
            task=options.task or self.task,
            frames=_frames(pictures, kept, bottom_up),
            fps=min(fps, options.fps or fps),
            source_frames=tuple(kept),
            seconds=tuple(i / fps for i in kept),
        )

    def _pictures(self, group: Any, wanted: str | None, reading: Reading) -> tuple[Any, bool]:
        """The stored pictures, (N, H, W, 3) uint8, and whether their rows go from bottom to top."""
        cameras: dict[str, str] = {}
        for key in sorted(k for k in group.get("obs", {}) if k.endswith((UPRIGHT, _BOTTOM_UP))):
            cameras.setdefault(key.removesuffix(UPRIGHT).removesuffix(_BOTTOM_UP), key)
        key = cameras[pick_camera(self.name, list(cameras), wanted, reading)]
        stored = group["obs"][key]
        if stored.dtype != np.uint8 or stored.ndim != 4 or stored.shape[-1] != 3:
            raise DatasetError(f"{self.name}: {key} is {stored.dtype} {stored.shape}; needed: uint8 (frames, H, W, 3)")
        if key.endswith(_BOTTOM_UP):
            reading.chose(f"{key} is taken as LIBERO's, rows from bottom to top, and turned upright", self.name)
        return stored, key.endswith(_BOTTOM_UP)

    def _fps(self, options: DatasetOptions, reading: Reading) -> float:
        """The control frequency of the environment that the file was recorded in."""
        if self.file_fps is not None:
            return self.file_fps
        if options.fps is not None and options.fps < _FPS:
            reading.chose(f"{_FPS:g} frames a second are assumed, since no control_freq is given", self.name)
        return _FPS

    def _labels(self, group: Any, reading: Reading) -> tuple[list[bool], bool | None]:
        """Whether each row is done (empty: unknown), and whether the trajectory succeeded.

        A ``success`` that the file states counts. Else rewards of 0 and 1, which are robosuite's success; else
        ``dones``, which in robomimic may only mark the end.
        """
        dones = [truth_of(value, "dones") is True for value in np.ravel(group["dones"][()])] if "dones" in group else []
        stated = self.success
        if stated is not None:
            if dones and any(dones) != stated:
                reading.chose(f"dones that say {any(dones)} beside success={stated} are not used", self.name)
                return [], stated
            return dones, stated
        rewards = np.ravel(group["rewards"][()]) if "rewards" in group else np.zeros(0)
        if rewards.size and set(np.unique(rewards)) <= {0, 1}:
            if not rewards.any() and not self.rewarded:
                reading.chose("success is unclear: no reward in the file, and dones may mark the end", self.name)
                return [], None
            return [bool(reward) for reward in rewards], bool(rewards.any())
        if dones:
            reading.chose("dones are taken as success: there are neither rewards of 0 and 1 nor a success", self.name)
            return dones, any(dones)
        return [], None


def _frames(stored: Any, kept: Sequence[int], bottom_up: bool) -> list[npt.NDArray[np.uint8]]:
    whole = stored[()] if len(kept) == len(stored) else (stored[i] for i in kept)
    return [np.ascontiguousarray(frame[::-1]) if bottom_up else np.asarray(frame) for frame in whole]


def _rows(stored: Any, kept: Sequence[int], length: int) -> npt.NDArray[np.float32] | None:
    """A row for each picture that stays; None where the file has fewer rows than pictures."""
    return None if len(stored) < length else np.asarray(stored[()], dtype=np.float32)[list(kept)]


def _seed(value: Any) -> int:
    """-1 where it is no number: nothing that is read depends on it."""
    try:
        return int(text_of(value))
    except ValueError:
        return -1


def _floats(group: Any, key: str) -> npt.NDArray[np.float32] | None:
    return np.asarray(group[key], dtype=np.float32) if key in group else None


def _json(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(text_of(value) or "{}")
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def control_frequency(attrs: Mapping[str, Any]) -> float | None:
    """Frames a second, where the file's attributes have the environment's settings."""
    about = _json(attrs.get("env_args")).get("env_kwargs")
    rate = about.get("control_freq") if isinstance(about, dict) else None
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None


def own_instruction(data: Any, key: str) -> str:
    """The instruction of one episode: this project's, robomimic's, RoboCasa's; "" without one."""
    try:
        attrs = data[key].attrs
    except _BROKEN:  # it is said when the episode is read
        return ""
    own = (attrs.get("task"), attrs.get("language_instruction"), _json(attrs.get("ep_meta")).get("lang"))
    return next(filter(None, map(text_of, own)), "")


def instruction(path: Path, attrs: Mapping[str, Any]) -> str:
    """The instruction of all episodes of a file, by its attributes or its name; "" without one."""
    if text_of(attrs.get("task")):
        return text_of(attrs["task"])
    for key in ("problem_info", "env_args"):
        instruction = text_of(_json(attrs.get(key)).get("language_instruction"))
        if instruction:
            return instruction.strip('" ')
    if path.stem.endswith("_demo"):  # LIBERO names its files after the instruction, after the scene's name
        words = [word for word in path.stem.removesuffix("_demo").split("_") if not word.isupper()]
        return " ".join(word for word in words if not word.startswith("SCENE"))
    return ""
