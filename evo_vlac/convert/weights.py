"""Tensor by tensor: names and shapes of the published checkpoint to transformers' own.

vision_model.encoder.layers.N.attn.qkv       -> q_proj, k_proj, v_proj      (stacked on the rows)
language_model...attention.wqkv              -> q_proj, k_proj, v_proj      (interleaved by key/value group)
mlp1.0 / mlp1.1 / mlp1.3                     -> multi_modal_projector
everything else keeps its values under another name
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evo_vlac.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_VISION = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding.weight": "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.bias": "embeddings.patch_embeddings.projection.bias",
}
_VISION_LAYER = {
    "attn.proj.weight": "attention.projection_layer.weight",
    "attn.proj.bias": "attention.projection_layer.bias",
    "attn.q_norm.weight": "attention.q_norm.weight",
    "attn.k_norm.weight": "attention.k_norm.weight",
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
    "mlp.fc1.weight": "mlp.fc1.weight",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.weight": "mlp.fc2.weight",
    "mlp.fc2.bias": "mlp.fc2.bias",
}
_PROJECTOR = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
_TEXT = {
    "language_model.model.tok_embeddings.weight": "language_model.model.embed_tokens.weight",
    "language_model.model.norm.weight": "language_model.model.norm.weight",
    "language_model.output.weight": "language_model.lm_head.weight",
}
_TEXT_LAYER = {
    "attention.wo": "self_attn.o_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}
_SKIPPED = re.compile(r"rotary_emb\.inv_freq$")
_LAYER = re.compile(r"(?P<tower>vision_model\.encoder|language_model\.model)\.layers\.(?P<n>\d+)\.(?P<rest>.+)")


def convert_tensor(
    name: str, tensor: torch.Tensor, heads: int, key_value_heads: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that one published tensor becomes. ``heads`` and ``key_value_heads`` are the text model's."""
    if _SKIPPED.search(name):
        return
    layer = _LAYER.fullmatch(name)
    if layer and layer["tower"] == "vision_model.encoder":
        yield from _vision_layer(name, layer["n"], layer["rest"], tensor)
    elif layer:
        yield from _text_layer(name, layer["n"], layer["rest"], tensor, heads, key_value_heads)
    elif name in _TEXT:
        yield _TEXT[name], tensor
    elif name.startswith("vision_model.") and name.removeprefix("vision_model.") in _VISION:
        yield f"vision_tower.{_VISION[name.removeprefix('vision_model.')]}", tensor
    elif name.startswith("mlp1.") and name.split(".")[1] in _PROJECTOR:
        _, index, kind = name.split(".")
        yield f"multi_modal_projector.{_PROJECTOR[index]}.{kind}", tensor
    else:
        raise _unknown(name)


def _vision_layer(name: str, n: str, rest: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    prefix = f"vision_tower.encoder.layer.{n}"
    if rest in ("attn.qkv.weight", "attn.qkv.bias"):
        kind = rest.rsplit(".", 1)[1]
        for part, chunk in zip("qkv", tensor.chunk(3, dim=0)):
            yield f"{prefix}.attention.{part}_proj.{kind}", chunk.contiguous()
    elif rest in _VISION_LAYER:
        yield f"{prefix}.{_VISION_LAYER[rest]}", tensor
    else:
        raise _unknown(name)


def _text_layer(
    name: str, n: str, rest: str, tensor: torch.Tensor, heads: int, key_value_heads: int
) -> Iterator[tuple[str, torch.Tensor]]:
    prefix = f"language_model.model.layers.{n}"
    part, kind = rest.rsplit(".", 1)
    if part == "attention.wqkv":
        # Rows come in key/value groups: the group's query heads, then its key head, then its value head.
        per_group = heads // key_value_heads
        grouped = tensor.reshape(key_value_heads, per_group + 2, -1, *tensor.shape[1:])
        for letter, rows in (("q", grouped[:, :per_group]), ("k", grouped[:, -2:-1]), ("v", grouped[:, -1:])):
            yield f"{prefix}.self_attn.{letter}_proj.{kind}", rows.reshape(-1, *tensor.shape[1:]).contiguous()
    elif part in _TEXT_LAYER:
        yield f"{prefix}.{_TEXT_LAYER[part]}.{kind}", tensor
    else:
        raise _unknown(name)


def _unknown(name: str) -> CheckpointError:
    return CheckpointError(f"the checkpoint has a tensor {name!r} that this conversion does not know; nothing written")
