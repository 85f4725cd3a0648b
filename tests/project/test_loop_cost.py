"""``studies/loop_cost.py`` as a command, in small: what it reads of pool, workers and sidecar is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(200)
def test_every_mode_is_measured():
    """One round of two short episodes in each mode; the critic's modes use the sidecar, the others do not."""
    command = [sys.executable, "studies/loop_cost.py", "--json", "--rounds", "1", "--episodes", "2", "--delay-ms", "2"]
    done = subprocess.run([*command, "env.max_steps=16"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["ms_per_step"]) == {"env", "env, frames", "VLAC, chunk", "VLAC, step"}
    assert set(report["steps"].values()) == {16}
    for parts in report["cpu_ms_per_step"].values():
        assert min(parts["environments"], parts["policy"]) > 0
    assert 0 < report["engine_busy_share"] <= 1
