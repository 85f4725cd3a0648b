"""Packed linear layers: another layout of the weights, the same numbers."""

from __future__ import annotations

import pytest
import torch

from sidecar.bench.shapes import SHAPES, STATISTICS, build
from sidecar.engines import packed
from sidecar.engines.direct_loader import build_direct


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
    if not packed._works(torch.bfloat16):
        pytest.skip("no bfloat16 kernels here")
    inputs = torch.randn(3, 7, 192, dtype=torch.bfloat16)
    assert torch.allclose(packed.PackedLinear(plain)(inputs), plain(inputs), atol=2e-2)
    assert not packed.pack(torch.nn.Sequential(torch.nn.Linear(192, 320, dtype=torch.float64)))


def test_a_packed_tower_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image features with and without packing, and no plain weight is held beside the packed ones."""
    image = torch.randn(2, 3, 112, 112)
    found = []
    for works in (True, False):
        model, processor = build(SHAPES["tiny"], "cpu", torch.float32)
        whole = sum(p.numel() for p in model.parameters())
        monkeypatch.setattr(packed, "_works", lambda dtype, works=works: works)
        engine = build_direct(model, processor.tokenizer, *STATISTICS)
        with torch.inference_mode():
            found.append(engine.backbone.features(image))
        assert (sum(p.numel() for p in model.parameters()) < whole / 2) == works
    assert torch.allclose(*found, atol=1e-5)
