"""LIBERO's files are found and read without importing what asks, downloads or weighs."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from verl.errors import AssetsMissingError, UnknownTaskError

if importlib.util.find_spec("libero") is None:
    pytest.skip("hf-libero is not installed (pip install 'vlac-rl[libero]')", allow_module_level=True)

from verl.envs.libero_setup import (
    ASSET_FOLDERS,
    SUITE_STEPS,
    LiberoTask,
    find_assets,
    initial_states,
    instruction_of,
    suite_tasks,
)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    folder = tmp_path / "assets"
    for name in ASSET_FOLDERS:
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize("suite", SUITE_STEPS)
def test_every_task_of_every_suite_has_its_files(suite: str) -> None:
    """10 tasks (libero_90: 90), each with instruction, definition and 50 initial states that load."""
    tasks = suite_tasks(suite)
    assert len(tasks) == (90 if suite == "libero_90" else 10)
    for task in tasks:
        assert task.bddl.is_file()
        assert len(initial_states(task)) == 50
        assert task.instruction == task.instruction.lower() and "scene" not in task.instruction


def test_instructions_are_liberos() -> None:
    """What the published checkpoints were told."""
    assert instruction_of("open_the_middle_drawer_of_the_cabinet") == "open the middle drawer of the cabinet"
    assert instruction_of("KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet") == (
        "close the top drawer of the cabinet"
    )


def test_an_unknown_suite_names_those_there_are() -> None:
    """One line with the suites."""
    with pytest.raises(UnknownTaskError, match="'libero_spatal': allowed are libero_spatial, libero_object"):
        suite_tasks("libero_spatal")


def test_assets_are_looked_for_in_order(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key wins over the variable; a wrong folder is named with what it lacks, not silently passed over."""
    monkeypatch.setenv("LIBERO_ASSETS", "/nowhere")
    assert find_assets(str(assets)) == assets
    with pytest.raises(AssetsMissingError, match=r"LIBERO_ASSETS='/nowhere': no folder with articulated_objects"):
        find_assets(None)
    monkeypatch.setenv("LIBERO_ASSETS", str(assets))
    assert find_assets(None) == assets
    with pytest.raises(AssetsMissingError, match=r"env.assets="):
        find_assets(str(assets.parent / "elsewhere"))


def test_missing_assets_say_where_was_looked_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded behind the user's back."""
    monkeypatch.delenv("LIBERO_ASSETS", raising=False)
    monkeypatch.setattr("verl.envs.libero_setup.is_assets", lambda folder: False)
    with pytest.raises(AssetsMissingError) as caught:
        find_assets(None)
    assert "env.assets=FOLDER" in str(caught.value) and "libero_assets" in str(caught.value)


def test_initial_states_run_no_code(tmp_path: Path) -> None:
    """A pickle that names anything but arrays is refused before it runs."""
    path = tmp_path / "x.pruned_init"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(os.system))
    with pytest.raises(AssetsMissingError, match="not a table of initial states"):
        initial_states(LiberoTask("x", "x", path, path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(np.zeros(3)))
    with pytest.raises(AssetsMissingError, match="not a table of initial states"):
        initial_states(LiberoTask("x", "x", path, path))


def test_the_import_asks_nothing_and_leaves_nothing(assets: Path, tmp_path: Path) -> None:
    """In a fresh process with a closed standard input and an empty home: no question, no file, no torch."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom verl.envs.libero_setup import import_problems\n"
        f"problems = import_problems(Path({str(assets)!r}))\n"
        "import libero.libero\n"
        "assert 'libero_tabletop_manipulation' in problems\n"
        f"assert libero.libero.get_assets_path() == {str(assets)!r}\n"
        "assert 'torch' not in sys.modules\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if k not in ("LIBERO_CONFIG_PATH", "LIBERO_ASSETS")}
    paths = {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept, **paths},
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.glob("libero*")) and not (home / ".libero").exists()
