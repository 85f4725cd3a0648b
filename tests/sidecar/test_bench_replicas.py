"""The bench of replicas measures what it says, in small."""

from __future__ import annotations

import json

import pytest

from sidecar.bench.replicas import main


def test_every_way_and_every_number_of_replicas_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """The hand-over by each way, the throughput without and with replicas."""
    keys = ["--px", "32", "--batch", "2", "--lanes", "2", "--seconds", "0.2", "--query-ms", "1", "--json"]
    assert main([*keys, "--devices", "", "cpu,cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in found["hand_over"]] == ["in this process", "a replica: shared memory", "a pipe"]
    assert all(row["batches_per_s"] > 0 for row in found["hand_over"])
    assert [row["devices"] for row in found["throughput"]] == ["none (in the service)", "cpu,cpu"]
    assert all(row["verdicts_per_s"] > 0 for row in found["throughput"])
