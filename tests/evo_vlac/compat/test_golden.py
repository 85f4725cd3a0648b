"""The pure functions of ``GAC_model`` give what VLAC's own code (71acb22) gave; written by ``comparison.py``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evo_vlac.compat.comparison import FUNCTIONS, GOLDEN_INPUTS, inputs_of, ours, result, same

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_upstreams(name: str) -> None:
    """On the same inputs."""
    got = [result(name, *ours(), one) for one in inputs_of(name, GOLDEN_INPUTS)]
    assert [i for i, (a, b) in enumerate(zip(got, GOLDEN[name], strict=True)) if not same(a, b)] == []
