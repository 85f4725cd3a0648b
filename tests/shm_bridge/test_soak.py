"""The soak, short."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.shm_bridge.conftest import ROOT


def test_a_short_soak_ends_without_a_fault():
    """Workers and sidecars are killed; every answer is right, nothing is lost, nothing is left."""
    command = [sys.executable, "-m", "shm_bridge.soak", "--minutes", "0.2", "--workers", "2", "--kill-worker-every",
               "1.5", "--kill-sidecar-every", "3", "--json"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    found = json.loads(result.stdout)
    assert result.returncode == 0 and found["faults"] == [], found
    assert found["wrong"] == 0 and found["answered"] > 0 and found["sidecars"] >= 2 and found["workers_killed"] >= 2
