"""Weights in 8 bits: what is refused in a line, and what the table says. torchao itself is optional."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from evo_vlac.engine import Answer, TokenInfo
from evo_vlac.queries import critic_query, done_query
from sidecar.bench.verdicts import compare, main, questions
from sidecar.config import Config, DirectConfig
from sidecar.config_check import problems
from sidecar.engines.offload import WeightOffload
from sidecar.engines.quantized import apply, plain_parts, quantize
from sidecar.errors import EngineUnavailableError


def test_a_gpu_computes_in_bfloat16_unless_told() -> None:
    """Also in a replica's process."""
    from evo_vlac.device import resolve_dtype

    assert Config(run_id="x", engine="fixed").dtype == "auto"
    assert resolve_dtype("auto", "cuda:0") == "bfloat16"


def test_without_torchao_the_check_says_what_is_missing(critic_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is loaded, by key."""
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "torchao" else found(name, *a))
    lines = problems(None, ["run_id=x", f"model={critic_path}", "direct.quantize=int8"])
    assert lines == ["direct.quantize=int8: the package torchao is not installed here"]


def test_another_kind_names_the_key() -> None:
    assert problems(None, ["run_id=x", "model=y", "direct.quantize=int4"])[0] == (
        "direct.quantize='int4': allowed: null, fp8, int8"
    )


def test_on_a_cpu_it_is_refused() -> None:
    """With what is fast there instead."""
    with pytest.raises(EngineUnavailableError, match=r"direct\.quantize=int8: for a GPU; the model is on cpu"):
        quantize(torch.nn.Linear(4, 4), "int8")
    quantize(torch.nn.Linear(4, 4), DirectConfig().quantize)


def test_int8_weights_are_offloaded_by_their_parts() -> None:
    """The layers' products stay near, the vocabulary's layer stays whole, and all of it is plain tensors to move."""
    pytest.importorskip("torchao")
    model = torch.nn.ModuleDict({"body": torch.nn.Linear(512, 512), "lm_head": torch.nn.Linear(512, 512)})
    model = model.to(torch.bfloat16).requires_grad_(False)
    inputs = torch.randn(3, 512, dtype=torch.bfloat16)
    expected, plain = model["body"](inputs), sum(p.nbytes for p in model.parameters())
    apply(model, "int8")
    assert torch.allclose(model["body"](inputs), expected, atol=0.05)
    assert type(model["lm_head"].weight.data) is torch.Tensor
    parts = plain_parts(model["body"].weight)
    assert len(parts) > 1 and all(type(part) is torch.Tensor for _, part in parts)
    assert WeightOffload(model, torch.device("cpu"), None).bytes()["host"] < 0.8 * plain


def done(probability_of_done: float) -> Answer:
    import math

    top = (("1", math.log(probability_of_done)), ("0", math.log(1 - probability_of_done)))
    return Answer("1", (TokenInfo("1", top[0][1], top),))


def test_the_table_counts_what_changed() -> None:
    """Dones across the threshold, numbers of pairs, and what could not be read by one of the two."""
    (a, b) = (query.images[0] for query in questions(None, 2, 1)[:2])
    asked = [done_query(a, "x"), done_query(b, "x"), critic_query(a, b, "x"), critic_query(b, a, "x")]
    before = [done(0.95), done(0.5), Answer("+10"), Answer("+20")]
    after = [done(0.85), done(0.6), Answer("+12"), Answer("what")]
    change = compare("int8", asked, before, after, 0.9)
    assert (change.dones, change.dones_changed, change.pairs, change.pairs_changed) == (2, 1, 2, 2)
    assert change.probability_most == pytest.approx(0.1, abs=1e-6) and change.pair_most == pytest.approx(2.0)


def test_the_command_prints_a_row_a_variant(critic_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bfloat16 against float32 on a CPU: the same questions to both."""
    keys = [f"model={critic_path}", "device=cpu", "--random", "4", "--json"]
    assert main([*keys, "--variant", "dtype=bfloat16"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["dones_changed"] == first["pairs_changed"] == 0 and first["dones"] == 4 and first["pairs"] == 3
    assert second["variant"] == "dtype=bfloat16" and second["probability_most"] > 0
    assert second["device_gb"] < first["device_gb"]


def test_only_a_missing_name_of_torchao_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version lacks a name: one line. What goes wrong within it is shown as it is."""
    torchao, quantization = types.ModuleType("torchao"), types.ModuleType("torchao.quantization")
    torchao.quantization = quantization  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchao", torchao)
    monkeypatch.setitem(sys.modules, "torchao.quantization", quantization)
    with pytest.raises(EngineUnavailableError, match=r"this torchao cannot.*Int8WeightOnlyConfig"):
        apply(torch.nn.Linear(4, 4), "int8")

    def broken(*_: object, **__: object) -> None:
        raise AttributeError("a mistake within")

    quantization.Int8WeightOnlyConfig, quantization.quantize_ = object, broken  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="a mistake within"):
        apply(torch.nn.Linear(4, 4), "int8")
