"""robomimic-style HDF5, as robomimic, LIBERO and this project write it.

/data                      attrs: task | problem_info (JSON: language_instruction) | env_args
/data/demo_<i>             attrs: success, kind, task (this project)
    dones | rewards        per step or per observation
    obs/<camera>_image     uint8 (N, H, W, 3), upright (robomimic, this project)
    obs/<camera>_rgb       uint8 (N, H, W, 3), rows from bottom to top (LIBERO keeps OpenGL's order)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory, flags, pick_camera
from evo_vlac.errors import DatasetError
from evo_vlac.video.reader import natural, sample_indices

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


def _read_file(path: Path, options: DatasetOptions) -> Iterator[Trajectory]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise DatasetError(f"{path} has no group 'data'; found: {', '.join(file) or 'nothing'}")
            data = file["data"]
            task = options.task or _task(path, data.attrs)
            for name in sorted(data, key=lambda name: natural(Path(name))):
                yield _trajectory(f"{path.stem}/{name}", data[name], task, options)
    except OSError as error:
        raise DatasetError(f"{path} is not an HDF5 file that can be read: {error}") from error


def _trajectory(name: str, group: Any, task: str, options: DatasetOptions) -> Trajectory:
    images = [k for k in group.get("obs", {}) if k.endswith((_UPRIGHT, _BOTTOM_UP))]
    cameras = {key.removesuffix(_UPRIGHT).removesuffix(_BOTTOM_UP): key for key in sorted(images)}
    key = cameras[pick_camera(name, list(cameras), options.camera)]
    stored = group["obs"][key]
    if stored.dtype != np.uint8 or stored.ndim != 4 or stored.shape[-1] != 3:
        raise DatasetError(f"{name}: {key} is {stored.dtype} {stored.shape}; needed: uint8 (frames, H, W, 3)")
    keep = sample_indices(_FPS, options.fps or _FPS, len(stored))
    frames = np.asarray(stored)[keep]
    if key.endswith(_BOTTOM_UP):
        frames = frames[:, ::-1]
    dones = _dones(group, len(stored))
    attrs = group.attrs
    success = bool(attrs["success"]) if "success" in attrs else (any(dones) if dones is not None else None)
    return Trajectory(
        name=name,
        task=options.task or str(attrs.get("task", "")) or task,
        frames=list(np.ascontiguousarray(frames)),
        fps=min(_FPS, options.fps or _FPS),
        dones=None if dones is None else tuple(dones[i] for i in keep),
        success=success,
        kind=str(attrs.get("kind", "")),
    )


def _dones(group: Any, frames: int) -> tuple[bool, ...] | None:
    """robosuite's sparse reward is the success itself, and robomimic's ``dones`` may only mark the end; so rewards that
    are 0 or 1 go first, unless the file says ``success`` itself (then its ``dones`` are this project's, exact)."""
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
    if path.stem.endswith("_demo"):  # LIBERO names its files after the instruction, behind the scene's name
        words = [word for word in path.stem.removesuffix("_demo").split("_") if not word.isupper()]
        return " ".join(word for word in words if not word.startswith("SCENE"))
    return ""
