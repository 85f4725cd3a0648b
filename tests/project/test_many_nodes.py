"""The study of many nodes, in small: it runs through, and its figures are of the right kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launching import ROOT

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]


def test_two_nodes_play_and_what_they_waited_for_is_told(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text('{"plan": {}}')
    small = ["--nodes", "2", "--environments", "1", "--steps", "8", "--repeats", "1", "--write", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "studies.many_nodes", *small], cwd=ROOT, capture_output=True, text=True, timeout=350
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(file.read_text())
    figures = results["nodes_detail"]["2"]
    assert results["plan"] == {} and results["nodes"] == {"2": figures["episodes_per_min"]}
    assert 0 < figures["episodes_per_min"] < figures["ideal"]
    assert figures["overslept_ms_a_step"] > 0 and figures["report_to_order_ms"] > 0 and figures["driver_cores"] >= 0
