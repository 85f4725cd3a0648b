"""Packed linear layers: another layout of the weights, the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evo_vlac.model import packed, tower_attention
from evo_vlac.model.loading import Loaded, build_runner
from evo_vlac.model.runner import ModelRunner
from evo_vlac.tiny.model import TinyConfig, build_model, build_processor


def weights_of(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def built(config: TinyConfig) -> tuple[int, ModelRunner]:
    """How many weights a model has before it is changed, and the runner that changed it."""
    processor = build_processor(config)
    model = build_model(config, processor)
    return weights_of(model), build_runner(Loaded(model, processor.tokenizer))


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_plain_one(activation: str | None, bias: bool) -> None:
    """For one row, many, and a batch of them, with the activation behind it."""
    plain = torch.nn.Linear(192, 320, bias=bias)
    ours = packed.PackedLinear(plain, activation)
    for shape in ((192,), (1, 192), (3, 7, 192)):
        inputs = torch.randn(shape)
        expected = plain(inputs) if activation is None else torch.nn.functional.gelu(plain(inputs))
        assert torch.allclose(ours(inputs), expected, atol=1e-5)


def test_bfloat16_is_packed_where_the_processor_can() -> None:
    """The same within its own rounding; where its kernels are missing, the plain layers are kept."""
    plain = torch.nn.Linear(192, 320, dtype=torch.bfloat16)
    if not packed.works(torch.bfloat16):
        pytest.skip("no bfloat16 kernels here")
    inputs = torch.randn(3, 7, 192, dtype=torch.bfloat16)
    assert torch.allclose(packed.PackedLinear(plain)(inputs), plain(inputs), atol=2e-2)
    assert not packed.pack(torch.nn.Sequential(torch.nn.Linear(192, 320, dtype=torch.float64)))


def test_a_packed_tower_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image features with and without packing, and no plain weight is held beside the packed ones."""
    image = torch.randn(2, 3, 112, 112)
    found = []
    for works in (True, False):
        monkeypatch.setattr(packed, "works", lambda dtype, works=works: works)
        whole, runner = built(TinyConfig())
        with torch.inference_mode():
            found.append(runner.backbone.features(image))
        assert (weights_of(runner.backbone.model) < whole / 2) == works
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_tower_attends_as_before(dtype: torch.dtype) -> None:
    """One head at a time, by oneDNN's products: what softmax attention in float64 says."""
    if not packed.works(dtype):
        pytest.skip("no such kernels here")
    query, key, value = (3 * torch.randn(2, 3, 300, 64, dtype=dtype) for _ in range(3))
    found, _ = tower_attention.attend(torch.nn.Identity(), query, key, value, None, scaling=0.125)
    expected = torch.nn.functional.scaled_dot_product_attention(query.double(), key.double(), value.double())
    fused = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    error, fused_error = ((one.double() - expected).abs().max() for one in (found.transpose(1, 2), fused))
    assert found.dtype == dtype and found.shape == (2, 300, 3, 64)
    assert error < max(2 * fused_error, 1e-5)


def test_a_tower_that_attends_so_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image features with and without it, where it is used and where another processor keeps the fused kernel."""
    image = torch.randn(1, 3, 448, 448)
    found = []
    for foreign in (True, False):
        monkeypatch.setattr(tower_attention, "_foreign_to_mkl", lambda foreign=foreign: foreign)
        _, runner = built(TinyConfig(image_size=448))
        name = runner.backbone.model.model.vision_tower.config._attn_implementation
        assert (name == tower_attention.NAME) == (foreign and packed.works(torch.float32))
        with torch.inference_mode():
            found.append(runner.backbone.features(image))
    assert torch.allclose(*found, atol=1e-4)
