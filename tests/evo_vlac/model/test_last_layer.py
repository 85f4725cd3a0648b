"""The last layer for the last position only gives what the whole layer gives there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from evo_vlac.model import last_layer, shared_prefix
from evo_vlac.model.kv import make_cache

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 50,
    "head_dim": 16,
}
MODELS: list[tuple[Any, Any]] = [(LlamaConfig, LlamaModel), (Qwen2Config, Qwen2Model), (Qwen3Config, Qwen3Model)]


@pytest.mark.parametrize(("config", "kind"), MODELS)
@pytest.mark.parametrize("before", [0, 5])
def test_the_last_position_is_the_same(config: Any, kind: Any, before: int) -> None:
    """Rows that end at different positions, with and without KV in front, for every decoder it takes over."""
    torch.manual_seed(0)
    model = kind(config(**SIZES)).eval()
    shared_prefix.install(model)
    embeds, last = torch.randn(3, 9, 64), torch.tensor([8, 4, 6])
    positions = torch.arange(before, before + 9)[None].expand(3, -1)

    def passed(**named: Any) -> torch.Tensor:
        cache = make_cache(None, 3, before + 9)
        if before:
            model(inputs_embeds=torch.full((3, before, 64), 0.1), past_key_values=cache)
        hidden: torch.Tensor = model(
            inputs_embeds=embeds, position_ids=positions, past_key_values=cache, **named
        ).last_hidden_state
        return hidden

    with torch.inference_mode():
        whole = passed()[torch.arange(3), last]
        assert last_layer.install(model)
        only = passed(last=last)
        assert only.shape == (3, 1, 64)
        assert torch.allclose(only[:, 0], whole, atol=1e-5)
        assert torch.allclose(passed()[torch.arange(3), last], whole, atol=1e-6)


def test_an_unknown_decoder_is_left_alone() -> None:
    """Nothing is changed where the layer might mean something else."""

    class OtherLayer(torch.nn.Module):
        pass

    class Other:
        layers = torch.nn.ModuleList([OtherLayer()])

    assert not last_layer.install(Other())
