"""The examples run as they say."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support.launching import ROOT
from tests.support.sidecar_process import sidecar

ADAPTER = ROOT / "examples" / "adapter_env_worker.py"


@pytest.mark.timeout(240)
def test_the_adapter_asks_the_shipped_critic(tmp_path):
    """A worker of one's own, a sidecar that runs already, the tiny VLAC, robosuite: an episode with its reward."""
    with sidecar(tmp_path, f"model={ROOT / 'models' / 'vlac-tiny'}", engine="direct") as one:
        command = [sys.executable, str(ADAPTER), "--run-id", one.run_id, "--episodes", "1", "--max-steps", "4"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        result = ast.literal_eval(done.stdout.strip().splitlines()[-1])
        assert result["steps"] == 4 and not result["done"] and 0 <= result["reward"] <= 1
        assert one.status()["verdicts"] == 5, "four dones and a value list"


def test_the_adapter_page_shows_the_lines_of_the_example():
    """What the page says is added is what the example has, and it needs nothing else of ours."""
    source = ADAPTER.read_text()
    added = [line.split("  # added")[0].strip() for line in source.splitlines() if "  # added" in line]
    page = (ROOT / "docs" / "adapter.md").read_text()
    assert len(added) == 3
    for line in added:
        assert line in page
    names = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert names & {"verl", "sidecar", "evo_vlac"} == set() and "shm_bridge" in names
