"""Imports LIBERO without its questions: its configuration, its assets, its tasks and initial states.

``import libero.libero`` asks on standard input when it finds no ``config.yaml``, downloads assets when it finds none,
and its benchmark module imports torch. Nothing of this suits a worker: the configuration is written to a folder of our
own, the assets are looked for and their lack is an error, and suites and initial states are read from the package's
files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import runpy
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from verl.errors import AssetsMissingError, ConfigError, UnknownTaskError

SUITE_STEPS = {  # longest episodes, as published
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
ASSET_FOLDERS = ("articulated_objects", "scenes", "textures")  # what a folder of assets must hold


@dataclass(frozen=True, slots=True)
class LiberoTask:
    """One task of a suite: its instruction, its definition (BDDL) and its initial states, as files of the package."""

    name: str
    instruction: str
    bddl: Path
    initial_states: Path


@cache
def package() -> Path:
    """The folder ``libero/libero`` of the installed package, found without importing it.

    Raises:
        ConfigError: not installed.
    """
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("env.name='libero' needs hf-libero: pip install 'vlac-rl[libero]'")
    return Path(next(iter(spec.submodule_search_locations))) / "libero"


def suite_tasks(suite: str) -> list[LiberoTask]:
    """The tasks of a suite in LIBERO's order.

    Raises:
        UnknownTaskError: naming the suites that there are.
    """
    if suite not in SUITE_STEPS:
        raise UnknownTaskError(f"data.task_suite_name={suite!r}: allowed are {', '.join(SUITE_STEPS)}")
    names = _task_map()[suite]
    bddl, states = package() / "bddl_files" / suite, package() / "init_files" / suite
    return [
        LiberoTask(name, instruction_of(name), bddl / f"{name}.bddl", states / f"{name}.pruned_init") for name in names
    ]


@cache
def _task_map() -> dict[str, list[str]]:
    """Suites by name; run as a file, because importing its package imports torch."""
    tasks: dict[str, list[str]] = runpy.run_path(str(package() / "benchmark" / "libero_suite_task_map.py"))[
        "libero_task_map"
    ]
    return tasks


def instruction_of(name: str) -> str:
    """The instruction that LIBERO makes of a task's name: the scene's number is no part of it."""
    if name[0].isupper() and "SCENE" in name:  # LIVING_ROOM_SCENE2_put_both_...
        name = name[name.index("SCENE") :].split("_", 1)[1]
    return " ".join(name.split("_"))


def initial_states(task: LiberoTask) -> np.ndarray:
    """(n, state) float64: MuJoCo states to start from. ``torch.save`` of an array is a pickle in a zip file."""
    with zipfile.ZipFile(task.initial_states) as archive:
        member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        try:
            states = _ArrayUnpickler(archive.open(member)).load()
        except pickle.UnpicklingError as error:
            raise AssetsMissingError(f"{task.initial_states}: not a table of initial states: {error}") from error
    if not isinstance(states, np.ndarray) or states.ndim != 2:
        raise AssetsMissingError(f"{task.initial_states}: not a table of initial states")
    return states


class _ArrayUnpickler(pickle.Unpickler):
    """Loads numpy arrays and nothing else: a pickle can run anything."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype", "scalar"):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 2's pickles spell bytes
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a table of initial states")


def find_assets(configured: str | None) -> Path:
    """LIBERO's assets: ``env.assets``, ``$LIBERO_ASSETS``, beside the project, in the package, in its download cache.

    Raises:
        AssetsMissingError: naming every place looked at.
    """
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "libero_assets"
    named = [("env.assets", configured), ("LIBERO_ASSETS", os.environ.get("LIBERO_ASSETS"))]
    for key, value in named:
        if value:
            if not is_assets(Path(value).expanduser()):
                raise AssetsMissingError(f"{key}={value!r}: no folder with {', '.join(ASSET_FOLDERS)}")
            return Path(value).expanduser().resolve()
    places = [beside, package() / "assets"]
    with contextlib.suppress(RuntimeError):  # a user without a home
        places.append(Path("~/.cache/libero/assets").expanduser())
    for place in places:
        if is_assets(place):
            return place
    raise AssetsMissingError(
        f"LIBERO's assets were not found in {', '.join(map(str, places))}: name their folder by env.assets=FOLDER or "
        "LIBERO_ASSETS, or download them once: python -c 'from libero.libero.utils.download_utils import "
        "download_assets_from_huggingface as d; d()' (answer n)"
    )


def is_assets(folder: Path) -> bool:
    """Whether ``folder`` holds LIBERO's assets."""
    return all((folder / name).is_dir() for name in ASSET_FOLDERS)


def import_problems(assets: Path) -> dict[str, Any]:
    """LIBERO's environment classes by problem name, reading ``assets``. Asks nothing, downloads nothing."""
    root = package()
    if not os.path.exists(os.path.join(os.environ.get("LIBERO_CONFIG_PATH", ""), "config.yaml")):
        with tempfile.TemporaryDirectory(prefix="libero-config-") as folder:
            keys = {
                "benchmark_root": "",
                "bddl_files": "bddl_files",
                "init_states": "init_files",
                "datasets": "datasets",
            }
            paths = {key: str(root / value) for key, value in keys.items()} | {"assets": str(assets)}
            Path(folder, "config.yaml").write_text(yaml.safe_dump(paths))
            before = os.environ.get("LIBERO_CONFIG_PATH")
            os.environ["LIBERO_CONFIG_PATH"] = folder  # read when the module is imported, and never by us again
            try:
                import libero.libero
            finally:
                os.environ.pop("LIBERO_CONFIG_PATH")
                if before is not None:
                    os.environ["LIBERO_CONFIG_PATH"] = before
    import libero.libero

    libero.libero._assets_path_cache = str(assets)
    from libero.libero.envs.bddl_base_domain import TASK_MAPPING

    mapping: dict[str, Any] = TASK_MAPPING
    return mapping
