"""A run's trace: what the sidecar wrote and what the trainer wrote, in one file that viewers read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000


def test_a_run_is_joined_and_summed(tmp_path: Path) -> None:
    """Batches of two services, the second killed in mid-line, and episodes that overlap: one list of events, sums."""
    (tmp_path / "logs").mkdir()
    file = tmp_path / "logs" / "sidecar-trace.json"
    now = time.monotonic_ns()
    for _ in range(2):
        trace = Trace(str(file))
        trace.batch("done", [now - 4 * MS, now - 2 * MS], now, 30 * MS)
        trace.metrics({"engine_busy_share": 0.5, "answered": 2.0})
        trace.close()
        trace.close()
    with file.open("a") as half:
        half.write('{"pid": 1, "na')
    timings = {"reset": 0.5, "physics": 1.0, "verdict_wait": 0.5}
    rows = [
        {
            "training": True,
            "episode": i,
            "steps": 8,
            "complete": False,
            "score": 0.1,
            "env_success": False,
            "timings": timings,
            "ended": 100.0 + i,
        }
        for i in range(4)
    ]
    (tmp_path / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    script = [sys.executable, str(ROOT / "studies" / "run_trace.py"), str(tmp_path), "--json"]
    report = json.loads(subprocess.run(script, check=True, capture_output=True, timeout=60).stdout)
    assert report["episode_s"] == pytest.approx(timings) and report["batches"] == 2
    assert report["batch_ms_mean"] == pytest.approx(30) and report["waited_ms_mean"] == pytest.approx(3)
    assert report["engine_busy_share_when_asked"] == pytest.approx(0.5)
    events = json.loads((tmp_path / "trace.json").read_text())
    drawn = [event for event in events if event["name"].startswith("training")]
    assert [event["tid"] for event in drawn] == [0, 1, 0, 1]  # two at a time
    assert {"done x 2", "waiting: done", "engine busy share", "physics (sum)"} <= {event["name"] for event in events}


def test_a_trace_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """By its key, as everything that is configured wrongly."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="trace="):
        Trace(str(tmp_path / "file" / "trace.json"))
