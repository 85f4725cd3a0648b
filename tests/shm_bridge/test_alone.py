"""The bridge in an environment that has nothing but numpy 1.26 and posix_ipc, against a sidecar in this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shm_bridge.conftest import ROOT

CLIENT = """
import sys, numpy
assert numpy.__version__.startswith("1.26"), numpy.__version__
import shm_bridge
from pathlib import Path
assert Path(sys.argv[2]) not in Path(shm_bridge.__file__).parents, shm_bridge.__file__
from shm_bridge import CameraSpec, Controller, Kind, Lane, LaneReader, LaneSpec, Orientation, backend
assert (backend.native() is not None) == (sys.argv[3] == "compiler"), "native code is built wherever it can be"
run = sys.argv[1]
spec = LaneSpec((CameraSpec("a", 16, 24, orientation=Orientation.FLIP_ROWS),), frames=9)
with Lane.attach(run, spec, timeout=20, name="foreign") as lane, Controller.connect(run, 5) as controller:
    assert controller.status()["alive"]
    lane.begin_episode(3, "task")
    for step in range(9):
        slot = lane.reserve(); slot["a"][...] = step * 20; lane.publish(slot, step)
        assert lane.wait(lane.ask(Kind.DONE, slot)).probability == step * 20 / 256
    verdict = lane.wait(lane.ask(Kind.VALUE, first=0, last=8, stride=4))
    assert verdict.values.tolist() == [0, 80, 160]
    with LaneReader.open(run, "foreign") as reader:
        assert (reader.view(slot.index) == 160).all()
print("passed")
"""


MADE = ("__pycache__", "build", "*.egg-info", "_native.c", "*.so")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_installed_alone_it_speaks_to_a_sidecar_elsewhere(version, sidecar, run_id, tmp_path):
    """pip install ./shm_bridge in a fresh environment: its client tests pass there."""
    own = [str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    python = next(iter([*own, shutil.which(f"python{version}")]), None)
    if python is None:
        pytest.skip(f"no Python {version}")
    source = tmp_path / "shm_bridge"
    shutil.copytree(ROOT / "shm_bridge", source, ignore=shutil.ignore_patterns(*MADE))
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    foreign = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([foreign, "-m", "pip", "install", "-q", "numpy==1.26.4", str(source)], check=True, timeout=400)
    listed = subprocess.run(
        [foreign, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.lower()
    names = {line.split("==")[0].replace("-", "_") for line in listed.splitlines()}
    assert names - {"pip", "setuptools", "wheel"} == {"numpy", "posix_ipc", "vlac_shm_bridge"}
    sidecar()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [foreign, "-c", CLIENT, run_id, str(ROOT), "compiler" if shutil.which("cc") else "none"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=tmp_path / "venv", env=environment, check=False
    )
    assert result.stdout.strip() == "passed", result.stderr
    assert sys.version_info[:2] >= (3, 10)
