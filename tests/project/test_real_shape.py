"""``studies/real_shape.py`` in small: real loaders, a real LIBERO, a real sidecar; only the shapes are tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.libero
@pytest.mark.timeout(1200)
def test_every_stage_is_measured_once(tmp_path: Path) -> None:
    """All stages are in the file, what was judged could be read, and a second call measures nothing again."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "studies.real_shape", "--shape", "tiny", "--folder", str(tmp_path)]
    command += ["--write", str(file)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    stages = json.loads(file.read_text())["real_shape"]
    assert list(stages) == [
        *("write random policy", "policy: load", "policy: chunk", "LIBERO: reset", "LIBERO: step"),
        *("policy: write checkpoint", "write random critic"),
        *("critic: load", "critic: done", "critic: critic", "critic: 8 dones"),
    ]
    assert all(stage["s"] > 0 and stage["peak_gb"] > 0.05 for stage in stages.values())
    assert stages["critic: 8 dones"]["valid"] == 8
    assert len(json.loads(file.read_text())["plan"]) == 4
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
