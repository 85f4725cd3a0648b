"""robomimic-style HDF5: read as robomimic, LIBERO and this project write it, written as this project reads it.

/data                      attrs: task | problem_info (JSON: language_instruction) | env_args (JSON: control_freq)
/data/demo_<i>             attrs: success, kind, seed, task, num_samples (this project) | ep_meta (JSON: lang)
    actions                (N - 1, A) float32
    dones | rewards        per step or per observation
    obs/<camera>_image     uint8 (N, H, W, 3), upright (robomimic, this project)
    obs/<camera>_rgb       uint8 (N, H, W, 3), rows from bottom to top (LIBERO keeps OpenGL's order)
    obs/proprio            (N, 8) float32 (this project)
    objects/<name>         (N, 3) float32: its position in the simulator, in metres (this project)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from evo_vlac.broken_files import unreadable
from evo_vlac.datasets.hdf5_demo import UPRIGHT, Rewarded, StoredDemo, control_frequency, instruction, own_instruction
from evo_vlac.datasets.reading import Reading
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory
from evo_vlac.errors import DatasetError, OutputError
from evo_vlac.paths import is_system
from evo_vlac.video.reader import natural

__all__ = ["CAMERA", "Hdf5Writer", "StoredDemo", "is_hdf5", "read_demonstrations", "read_hdf5", "stored_demos"]

CAMERA = "agentview"
"""The camera of demonstrations, unless another one is named."""


def is_hdf5(path: Path) -> bool:
    """Whether a file (or a folder's files) look like HDF5."""
    return path.suffix.lower() in (".hdf5", ".h5") and not path.name.startswith(".")


def hdf5_files(folder: Path) -> Iterator[Path]:
    """Those in a folder and below it."""
    return (file for file in folder.rglob("*") if is_hdf5(file) and not is_system(file, folder))


def read_hdf5(path: Path, options: DatasetOptions, reading: Reading) -> Iterator[Trajectory]:
    """The trajectories of a file, or of every HDF5 file in a folder, in the order of their numbers. Files and
    trajectories that cannot be read are skipped."""
    files = sorted(hdf5_files(path), key=natural) if path.is_dir() else [path]
    before = 0
    for file in files:
        try:
            # a folder may have a file of the same name in each of its folders
            with stored_demos(file, None if file == path else str(file.relative_to(path).with_suffix(""))) as demos:
                for number, demo in enumerate(demos, before):
                    if options.wants(number, demo.name, demo.name.rpartition("/")[2]):
                        found = reading.tried(demo.name, partial(demo.trajectory, options, reading))
                        if found is not None:
                            yield found
                before += len(demos)
        except DatasetError as error:
            reading.skip(str(file), error)


def read_demonstrations(paths: Sequence[Path], camera: str = CAMERA, tasks: Sequence[str] = ()) -> Iterator[Trajectory]:
    """The trajectories of several HDF5 files, of which each must be whole; ``tasks`` gives one instruction a file, or
    none to use the files' own. Raises DatasetError."""
    if tasks and len(tasks) != len(paths):
        raise DatasetError(f"{len(tasks)} tasks for {len(paths)} demonstration files; give one a file, or none")
    for index, path in enumerate(paths):
        options = DatasetOptions(camera, tasks[index] if tasks else None)
        with stored_demos(path) as demos:
            for demo in demos:
                yield demo.trajectory(options, Reading())


@contextmanager
def stored_demos(path: Path, called: str | None = None) -> Iterator[list[StoredDemo]]:
    """The episodes of a file in the order of their numbers, while it is open; ``called``: the file's name in theirs.
    Raises DatasetError."""
    import h5py

    if not path.is_file():
        raise DatasetError(f"no such HDF5 file: {path}")
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("data"), h5py.Group):
                raise DatasetError(f"{path} has no group 'data'; found: {', '.join(file) or 'nothing'}")
            data = file["data"]
            task, fps, rewarded = instruction(path, data.attrs), control_frequency(data.attrs), Rewarded(data)
            names, called = sorted(data, key=lambda name: natural(Path(name))), called or path.stem
            yield [
                StoredDemo(f"{called}/{name}", own_instruction(data, name) or task, data, name, fps, rewarded)
                for name in names
            ]
    except OSError as error:
        raise DatasetError(unreadable(path, "an HDF5 file", error)) from error


class Hdf5Writer:
    """Writes trajectories to a file that appears, whole, when the ``with`` block ends well."""

    def __init__(self, path: Path, env_name: str, task: str, camera: str = CAMERA, **attributes: str) -> None:
        """``attributes``: more of the whole file, as ``task_name``. Raises OutputError."""
        import h5py

        self.path, self.camera, self.count = path, camera, 0
        self._partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._partial, "w")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        self._data = self._file.create_group("data")
        self._data.attrs.update(env_name=env_name, task=task, **attributes)

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

    def write(self, trajectory: Trajectory, others: Mapping[str, npt.NDArray[np.uint8]] | None = None) -> None:
        """Appends a trajectory. ``others``: the frames (N, H, W, 3) of more cameras than the writer's own, by name."""
        group = self._data.create_group(f"demo_{self.count}")
        attrs = {"num_samples": len(trajectory) - 1, "kind": trajectory.kind, "seed": trajectory.seed}
        group.attrs.update(attrs, task=trajectory.task)
        if trajectory.success is not None:
            group.attrs["success"] = trajectory.success
        for camera, frames in {self.camera: np.asarray(trajectory.frames), **(others or {})}.items():
            # gzip: every HDF5 library reads it
            stored = {"chunks": (1, *frames.shape[1:]), "compression": "gzip", "compression_opts": 1}
            group.create_dataset(f"obs/{camera}{UPRIGHT}", data=frames, **stored)
        dones = None if trajectory.dones is None else np.array(trajectory.dones, dtype=bool)
        for name, array in (("dones", dones), ("actions", trajectory.actions), ("obs/proprio", trajectory.proprio)):
            if array is not None:
                group.create_dataset(name, data=array)
        for name, places in trajectory.objects.items():
            group.create_dataset(f"objects/{name}", data=places)
        self.count += 1
