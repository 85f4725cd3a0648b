"""Attention over a prefix that many rows share, without giving each row a copy of its keys and values.

    queries of all rows --> attention over the shared prefix (one matrix product for all rows)  --+
                        --> causal attention over each row's own positions                      --+--> merged by their
                                                                                                       log-sum-exp
softmax over [prefix, own] = the two softmaxes weighted by their sums of exponentials (the identity behind flash
attention), so nothing is approximated. For VLAC-2B a trajectory of six references is about 180 MB of keys and values:
held once, not once for each of 64 rows, and read once per layer and token.

Registered with transformers as an attention implementation; without a prefix it is plain SDPA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from evo_vlac.model.kv import Layers

NAME = "vlac_shared_prefix"
_Parts = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows (indices into the batch; None: all of them) and the prefix that they share."""

    rows: torch.Tensor | None
    layers: Layers


def install(language_model: Any) -> None:
    """Makes ``language_model`` understand ``shared_prefix=`` in its forward pass."""
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    language_model.config._attn_implementation = NAME


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared_prefix: Sequence[Shared] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """``query`` (b, heads, s, size); ``key``, ``value`` (b, kv heads, own positions, size): what follows the prefix."""
    if not shared_prefix:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    own, own_sum = _own(query, key, value, attention_mask, scale)
    index = int(module.layer_idx)  # type: ignore[arg-type]
    merged = torch.empty_like(own) if shared_prefix[0].rows is not None else own
    for group in shared_prefix:
        prefix_key, prefix_value = group.layers[index]
        rows = slice(None) if group.rows is None else group.rows
        seen, seen_sum = _over_prefix(query[rows], prefix_key, prefix_value, scale)
        share = torch.sigmoid(own_sum[rows] - seen_sum).unsqueeze(-1).to(own.dtype)
        merged[rows] = torch.lerp(seen, own[rows], share)
    return merged.transpose(1, 2).contiguous(), None


def _over_prefix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> _Parts:
    """All rows' queries against one prefix (1, kv heads, p, size): folded into one row, groups of heads too."""
    b, heads, s, size = query.shape
    kv = key.shape[1]
    folded = query.view(b, kv, heads // kv, s, size).permute(1, 2, 0, 3, 4).reshape(1, kv, -1, size)
    out, total = _attention(folded, key, value, scale, causal=False)
    out = out.view(kv, heads // kv, b, s, size).permute(2, 0, 1, 3, 4).reshape(b, heads, s, size)
    return out, total.reshape(kv, heads // kv, b, s).permute(2, 0, 1, 3).reshape(b, heads, s)


def _own(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> _Parts:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if mask is None and query.shape[2] == key.shape[2]:
        return _attention(query, key, value, scale, causal=True)
    return _plain(query, key, value, mask, scale)


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, causal: bool) -> _Parts:
    """Attention and its log-sum-exp (b, heads, s), by the flash kernels where there are some for this case."""
    if query.device.type == "cpu":
        out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=None, scale=scale
        )
        return out, total
    if query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] % 8 == 0:
        out, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scale
        )
        return out, total
    mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril() if causal else None
    return _plain(query, key, value, mask, scale)


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> _Parts:
    """The same spelled out: for single tokens, masks, and where no kernel gives the sum."""
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    total = scores.logsumexp(-1)
    return (scores - total.unsqueeze(-1)).exp().to(value.dtype) @ value, total
