"""The wheels in an empty environment, used from another folder: nothing needs the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launching import ROOT

CONSTRAINTS = ROOT / "setup" / "constraints.txt"
SMALL_RUN = (
    "trainer.run_id=wheels",
    "trainer.total_episodes=16",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.logger=[console]",
    "data.val_batch_size=4",
)


def run(command: list[str], folder: Path, timeout: float) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VENV")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that has the two wheels and what they need, and never saw the checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    pip = [sys.executable, "-m", "pip"]
    source = folder / "source"
    run([*pip, "wheel", "-q", "--no-deps", "-w", "dist", str(source / "shm_bridge"), str(source)], folder, 300)
    shutil.rmtree(source)
    run([sys.executable, "-m", "venv", str(folder / "venv")], folder, 120)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "-q", "-c", str(CONSTRAINTS)]
    torch = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    try:
        run([*pip, f"{torch}+cpu"], folder, 900)
    except AssertionError:  # no CPU build on the configured indexes
        run([*pip, torch], folder, 900)
    run([*pip, "--find-links", "dist", "vlac-rl[critic,train]"], folder, 1500)
    heal = f"VENV={folder}/venv; source {ROOT}/setup/environment.sh; heal_torchvision"  # beside the CPU build of torch
    run(["bash", "-ec", heal], folder, 120)
    return folder / "venv" / "bin"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_training_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """The default on a few episodes, with the shipped models, by the command that the wheel brings."""
    run([str(installed / "vlac-train"), *SMALL_RUN], tmp_path, 600)
    assert (tmp_path / "runs" / "wheels" / "summary.json").is_file()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_other_commands_work_there(installed: Path, tmp_path: Path) -> None:
    """The critic judges a picture; inspector, benchmark and sidecar say what they can do."""
    picture = tmp_path / "lift.png"
    shutil.copyfile(ROOT / "examples" / "data" / "lift_4.png", picture)
    said = run(
        [str(installed / "evo-vlac"), "done", str(picture), "--task", "lift the red cube", "--json"], tmp_path, 300
    )
    assert '"done"' in said
    assert "--check" in run([str(installed / "vlac-sidecar"), "--help"], tmp_path, 60)
    for name in ("vlac-inspect", "vlac-bench"):
        run([str(installed / name), "--help"], tmp_path, 60)
