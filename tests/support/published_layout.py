"""A checkpoint in the published layout: InternVLChatModel with InternLM2, random weights, no code of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.evo_vlac.convert.published_checkpoint import write_settings


def write_published(folder: Path) -> Path:
    """Writes it to the new folder ``folder``."""
    import torch
    from safetensors.torch import save_file

    write_settings(folder)
    config = json.loads((folder / "config.json").read_text())
    torch.manual_seed(0)
    weights = {name: torch.randn(shape) * 0.1 for name, shape in published_shapes(config)}
    weights |= {name: weight + 1 for name, weight in weights.items() if name.endswith("norm.weight")}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def published_shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights as InternVL publishes them."""
    vision, text = config["vision_config"], config["llm_config"]
    v, wide, h, inner = (
        vision["hidden_size"],
        vision["intermediate_size"],
        text["hidden_size"],
        text["intermediate_size"],
    )
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    kv = h // text["num_attention_heads"] * text["num_key_value_heads"]
    tower, model = "vision_model.embeddings.", "language_model.model."
    yield from ((tower + "class_embedding", (1, 1, v)), (tower + "position_embedding", (1, patches + 1, v)))
    yield from ((tower + "patch_embedding.weight", (v, 3, 14, 14)), (tower + "patch_embedding.bias", (v,)))
    for i in range(vision["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{i}."
        for name, size in (
            ("attn.qkv", (3 * v, v)),
            ("attn.proj", (v, v)),
            ("mlp.fc1", (wide, v)),
            ("mlp.fc2", (v, wide)),
        ):
            yield from ((f"{layer}{name}.weight", size), (f"{layer}{name}.bias", size[:1]))
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1", "ls2"):
            yield layer + name, (v,)
    yield from ((model + "tok_embeddings.weight", (text["vocab_size"], h)), (model + "norm.weight", (h,)))
    yield "language_model.output.weight", (text["vocab_size"], h)
    for i in range(text["num_hidden_layers"]):
        layer = f"{model}layers.{i}."
        yield from ((layer + "attention.wqkv.weight", (h + 2 * kv, h)), (layer + "attention.wo.weight", (h, h)))
        for name, size in (("w1", (inner, h)), ("w3", (inner, h)), ("w2", (h, inner))):
            yield f"{layer}feed_forward.{name}.weight", size
        yield from ((layer + "attention_norm.weight", (h,)), (layer + "ffn_norm.weight", (h,)))
    yield from (("mlp1.0.weight", (4 * v,)), ("mlp1.0.bias", (4 * v,)))
    yield from (("mlp1.1.weight", (h, 4 * v)), ("mlp1.1.bias", (h,)), ("mlp1.3.weight", (h, h)), ("mlp1.3.bias", (h,)))
