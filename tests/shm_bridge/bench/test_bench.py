"""The benchmark's rows and skips; never its times."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from shm_bridge.bench import lanes
from shm_bridge.bench.__main__ import PEERS, available, merge, parse
from shm_bridge.bench.floor import Pauses, compiler, measure_pauses
from shm_bridge.bench.report import pauses, ratios, table
from tests.shm_bridge.conftest import ROOT

KEYS = {
    "transport",
    "frame",
    "workers",
    "mode",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "verdicts_per_s",
    "cpu_us_per_verdict",
    "idle_cpu_pct",
}


def test_rows_have_the_promised_keys():
    """A script reads a list of rows from standard output."""
    command = [
        sys.executable,
        "-m",
        "shm_bridge.bench",
        "--json",
        "--peers",
        "mp_pipe",
        "--frames",
        "32",
        "--workers",
        "2",
        "--rounds",
        "60",
        "--repeats",
        "1",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=True)
    rows = json.loads(result.stdout)
    assert all(set(row) == KEYS for row in rows)
    found = {(row["transport"], row["mode"]) for row in rows}
    assert found == {("shm", "parked"), ("shm", "spin"), ("mp_pipe", "parked")}
    assert all(row["frame"] == "32x32x3" and row["workers"] == 2 and 0 < row["p50_us"] <= row["max_us"] for row in rows)


def test_missing_peers_are_skipped_with_a_word(monkeypatch, capsys):
    """A peer is an extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert set(available(list(PEERS))) == {"mp_queue", "mp_pipe"}
    assert "skipped ray: ray is not installed" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="carrier_pigeon"):
        available(["carrier_pigeon"])


def test_medians_and_ratios():
    """Figures are medians over passes, the maximum stays one; ratios are told for a person."""
    row = dict.fromkeys(KEYS, 1.0) | {"transport": "shm", "frame": "f", "workers": 1, "mode": "parked", "p50_us": 10.0}
    merged = merge([row, row | {"p50_us": 30.0, "max_us": 9.0}, row | {"p50_us": 20.0}])
    assert (merged["p50_us"], merged["max_us"]) == (20.0, 9.0)
    floor = row | {"transport": "c_floor", "p50_us": 10.0}
    assert "parked/floor 2.00" in ratios([merged, floor]) and "c_floor" in table([floor])


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_the_machines_own_pauses_are_told():
    """Who wonders about p99 sees what would be there without any bridge."""
    found = measure_pauses()
    assert found.per_s >= 0 and found.mean_us >= 0
    row = dict.fromkeys(KEYS, 1.0) | {"transport": "shm", "frame": "f", "workers": 1, "mode": "spin", "p50_us": 10.0}
    assert "1000 times a second, for 20 us; of our round trips that hits 2.0 % of those of 10 us (spin)" in pauses(
        Pauses(1000.0, 20.0), [row]
    )


def test_what_lanes_cost_is_told_for_both_sides():
    """CPU per verdict, the sidecar's share of it, and that of a parked sidecar."""
    found = lanes.measure(2, 64, 0.01, together=2)
    assert found["lanes"] == 2
    assert set(found) == {"lanes", "cpu_us_per_verdict", "sidecar_us_per_verdict", "idle_cpu_pct"}
    assert found["cpu_us_per_verdict"] > 0


def test_none_is_no_peer():
    """As the help offers it: ours alone."""
    assert parse(["--peers", "none"]).peers == [] == parse(["--peers"]).peers
    assert parse([]).peers is None and parse(["--peers", "ray"]).peers == ["ray"]
