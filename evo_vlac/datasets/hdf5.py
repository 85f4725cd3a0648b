"""robomimic-style HDF5: read as robomimic, LIBERO and this project write it, written as this project reads it.

/data                      attrs: task | problem_info (JSON: language_instruction) | env_args
/data/demo_<i>             attrs: success, kind, seed, task, num_samples (this project)
    actions                (N - 1, A) float32
    dones | rewards        per step or per observation
    obs/<camera>_image     uint8 (N, H, W, 3), upright (robomimic, this project)
    obs/<camera>_rgb       uint8 (N, H, W, 3), rows from bottom to top (LIBERO keeps OpenGL's order)
    obs/proprio            (N, 8) float32 (this project)
    objects/<name>         (N, 3) float32: its position in the simulator, in metres (this project)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory, flags, pick_camera
from evo_vlac.errors import DatasetError, OutputError
from evo_vlac.video.reader import natural
from evo_vlac.video.thinning import sample_indices

CAMERA = "agentview"
"""The camera of demonstrations, unless another one is named."""

_UPRIGHT, _BOTTOM_UP = "_image", "_rgb"
_FPS = 20.0  # robosuite's usual control frequency


def is_hdf5(path: Path) -> bool:
    """Whether a file (or a folder's files) look like HDF5."""
    return path.suffix.lower() in (".hdf5", ".h5")


def read_hdf5(path: Path, options: DatasetOptions) -> Iterator[Trajectory]:
    """The trajectories of a file, or of every HDF5 file in a folder, in the order of their numbers."""
    files = sorted((f for f in path.rglob("*") if is_hdf5(f)), key=natural) if path.is_dir() else [path]
    for file in files:
        yield from _read_file(file, options)


def read_demonstrations(paths: Sequence[Path], camera: str = CAMERA, tasks: Sequence[str] = ()) -> Iterator[Trajectory]:
    """The trajectories of several files; ``tasks`` gives one instruction a file, or none to use the files' own."""
    if tasks and len(tasks) != len(paths):
        raise DatasetError(f"{len(tasks)} tasks for {len(paths)} demonstration files; give one a file, or none")
    for index, path in enumerate(paths):
        yield from read_hdf5(path, DatasetOptions(camera, tasks[index] if tasks else None))


def _read_file(path: Path, options: DatasetOptions) -> Iterator[Trajectory]:
    import h5py

    if not path.is_file():
        raise DatasetError(f"no such HDF5 file: {path}")
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise DatasetError(f"{path} has no group 'data'; found: {', '.join(file) or 'nothing'}")
            data = file["data"]
            task = _task(path, data.attrs)
            for name in sorted(data, key=lambda name: natural(Path(name))):
                yield _trajectory(f"{path.stem}/{name}", data[name], task, options)
    except OSError as error:
        raise DatasetError(f"{path} is not an HDF5 file that can be read: {error}") from error


def _trajectory(name: str, group: Any, task: str, options: DatasetOptions) -> Trajectory:
    frames = _frames(name, group, options.camera)
    dones = _dones(group, len(frames))
    attrs = group.attrs
    success = bool(attrs["success"]) if "success" in attrs else (any(dones) if dones is not None else None)
    whole = Trajectory(
        name=name,
        task=options.task or str(attrs.get("task", "")) or task,
        frames=list(frames),
        fps=min(_FPS, options.fps or _FPS),
        dones=dones,
        success=success,
        kind=str(attrs.get("kind", "unknown")),
        seed=int(attrs.get("seed", -1)),
        actions=_floats(group, "actions"),
        proprio=_floats(group, "obs/proprio"),
        objects={key: np.asarray(places, dtype=np.float32) for key, places in group.get("objects", {}).items()},
    )
    return whole.take(sample_indices(_FPS, options.fps or _FPS, len(frames)))


def _frames(name: str, group: Any, wanted: str | None) -> npt.NDArray[np.uint8]:
    """(N, H, W, 3), upright."""
    images = [k for k in group.get("obs", {}) if k.endswith((_UPRIGHT, _BOTTOM_UP))]
    cameras = {key.removesuffix(_UPRIGHT).removesuffix(_BOTTOM_UP): key for key in sorted(images)}
    key = cameras[pick_camera(name, list(cameras), wanted)]
    stored = group["obs"][key]
    if stored.dtype != np.uint8 or stored.ndim != 4 or stored.shape[-1] != 3:
        raise DatasetError(f"{name}: {key} is {stored.dtype} {stored.shape}; needed: uint8 (frames, H, W, 3)")
    frames: npt.NDArray[np.uint8] = np.asarray(stored)
    return np.ascontiguousarray(frames[:, ::-1]) if key.endswith(_BOTTOM_UP) else frames


def _floats(group: Any, key: str) -> npt.NDArray[np.float32] | None:
    return np.asarray(group[key], dtype=np.float32) if key in group else None


def _dones(group: Any, frames: int) -> tuple[bool, ...] | None:
    """robosuite's sparse reward is the success itself, and robomimic's ``dones`` may only mark the end. So rewards that
    are 0 or 1 are preferred, unless the file says ``success`` itself (then its ``dones`` are this project's, exact)."""
    if "rewards" in group and "success" not in group.attrs:
        rewards = np.asarray(group["rewards"])
        if rewards.size and set(np.unique(rewards)) <= {0, 1}:
            return flags(rewards, frames)
    return flags(group["dones"], frames) if "dones" in group else None


def _task(path: Path, attrs: Any) -> str:
    if attrs.get("task"):
        return str(attrs["task"])
    for key in ("problem_info", "env_args"):
        try:
            info = json.loads(str(attrs.get(key, "{}")))
        except json.JSONDecodeError:
            continue
        if isinstance(info, dict) and info.get("language_instruction"):
            return str(info["language_instruction"]).strip('" ')
    if path.stem.endswith("_demo"):  # LIBERO names its files after the instruction, after the scene's name
        words = [word for word in path.stem.removesuffix("_demo").split("_") if not word.isupper()]
        return " ".join(word for word in words if not word.startswith("SCENE"))
    return ""


class Hdf5Writer:
    """Writes trajectories to a file that appears, whole, when the ``with`` block ends well."""

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

    def __enter__(self) -> Hdf5Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, trajectory: Trajectory) -> None:
        """Appends a trajectory."""
        group = self._data.create_group(f"demo_{self.count}")
        attrs = {"num_samples": len(trajectory) - 1, "kind": trajectory.kind, "seed": trajectory.seed}
        group.attrs.update(attrs, task=trajectory.task)
        if trajectory.success is not None:
            group.attrs["success"] = trajectory.success
        frames = np.asarray(trajectory.frames)
        group.create_dataset(f"obs/{self.camera}_image", data=frames, chunks=(1, *frames.shape[1:]), compression="lzf")
        dones = None if trajectory.dones is None else np.array(trajectory.dones, dtype=bool)
        for name, array in (("dones", dones), ("actions", trajectory.actions), ("obs/proprio", trajectory.proprio)):
            if array is not None:
                group.create_dataset(name, data=array)
        for name, places in trajectory.objects.items():
            group.create_dataset(f"objects/{name}", data=places)
        self.count += 1
