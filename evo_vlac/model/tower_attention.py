"""Attention of the vision tower on a CPU, as products of oneDNN's.

torch's fused kernel for CPUs multiplies through MKL, which runs AVX2 code on other makers' processors than Intel's. On
an AMD EPYC at 1025 positions it takes 1.4 times as long in float32, and twice as long in bfloat16, as a softmax between
two of oneDNN's products. The scores of one head at a time are held, 4 MB. They are float32 in bfloat16, too, as in the
fused kernel. Everywhere else transformers' own attention stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from evo_vlac.model import packed

NAME = "vlac_cpu_tower"
_LEAST = 256  # positions; fewer gain nothing


def install(vision_tower: Any) -> bool:
    """Makes ``vision_tower`` (on a CPU) attend like this where that is faster; whether it is."""
    if not _foreign_to_mkl() or not packed.works(next(vision_tower.parameters()).dtype):
        return False
    AttentionInterface.register(NAME, attend)
    vision_tower.config._attn_implementation = NAME
    return True


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """``query``, ``key``, ``value`` (b, heads, s, size) to (b, s, heads, size): each position sees all."""
    b, heads, s, size = query.shape
    if s < _LEAST or attention_mask is not None or dropout or key.shape != query.shape:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    scale = scaling if scaling is not None else size**-0.5
    # where rows do not lie one after the other oneDNN takes its reference code, a hundred times slower
    asked, seen = (query.float() * scale).contiguous(), key.float().contiguous()
    columns = value.transpose(-1, -2).contiguous()
    out = query.new_empty(b, s, heads, size)
    for i in range(b):
        for j in range(heads):
            scores = packed.product(asked[i, j], seen[i, j])
            out[i, :, j] = packed.product(torch.softmax(scores, -1).to(value.dtype), columns[i, j])
    return out, None


def _foreign_to_mkl() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
