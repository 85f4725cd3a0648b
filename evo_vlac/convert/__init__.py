"""From the published remote-code checkpoint (InternVLChatModel with InternLM2) to transformers' own InternVL."""

from __future__ import annotations

from evo_vlac.convert.checkpoint import Report, convert

__all__ = ["Report", "convert"]
