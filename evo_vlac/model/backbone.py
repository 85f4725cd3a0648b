"""The parts of an InternVL model that the direct engine calls, for transformers' own architecture.

pixels --features--> (n, tokens, width)       ids --embed--> (b, s, width)
embeds + KV of what stands before --decode--> hidden of every position, KV grown --logits--> float32 (b, vocabulary)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evo_vlac.model import last_layer, packed, tower_attention
from evo_vlac.model.kv import Layers, join, make_cache
from evo_vlac.model.shared_prefix import Shared, install


@dataclass(frozen=True, slots=True)
class Step:
    """One decoder pass: the hidden state of every new position (b, s, width), and the KV cache (None: not kept).

    A pass that was told its ``last`` positions has the hidden states of these only (b, 1, width).
    """

    hidden: torch.Tensor
    cache: Any


class NativeBackbone:
    """``InternVLForConditionalGeneration``. ``compiled`` wraps tower and decoder with torch.compile."""

    def __init__(self, model: Any, compiled: bool = False) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        inner = model.model
        install(inner.language_model)
        self._last_only = last_layer.install(inner.language_model)
        if self.device.type == "cpu" and not compiled:
            packed.pack(inner)
            tower_attention.install(inner.vision_tower)
        self._embed = inner.get_input_embeddings()
        self._decoder = torch.compile(inner.language_model, dynamic=True) if compiled else inner.language_model
        self._features = torch.compile(inner.get_image_features) if compiled else inner.get_image_features
        self._layer = model.config.vision_feature_layer
        self._select = model.config.vision_feature_select_strategy
        self._head = model.lm_head
        self.layer_count = int(model.config.text_config.num_hidden_layers)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) to (n, image tokens, width of the text model)."""
        found = self._features(
            pixel_values=pixels,
            vision_feature_layer=self._layer,
            vision_feature_select_strategy=self._select,
            return_dict=True,
        )
        tensor: torch.Tensor = found.pooler_output
        return tensor

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (b, s) to embeddings (b, s, width)."""
        tensor: torch.Tensor = self._embed(ids)
        return tensor

    def decode(
        self,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        cache: Any = None,
        mask: torch.Tensor | None = None,
        shared: Sequence[Shared] | None = None,
        last: torch.Tensor | None = None,
    ) -> Step:
        """New positions (b, s, width) after those in ``cache``, which grows by them; None: no KV is kept.

        ``mask`` (b, positions of cache + new): 1 where a position may be seen; without one all before it may.
        ``shared``: prefixes that stand before the cache and are seen by all of their rows' positions. ``last`` (b,):
        the only positions that are asked for, with no ``mask``.
        """
        more: dict[str, Any] = {} if shared is None else {"shared_prefix": shared}
        if last is not None and self._last_only:
            more["last"] = last
        out = self._decoder(
            inputs_embeds=embeds,
            position_ids=positions,
            past_key_values=cache,
            attention_mask=mask,
            use_cache=cache is not None,
            **more,
        )
        hidden = out.last_hidden_state
        if last is not None and not self._last_only:
            hidden = hidden[torch.arange(len(hidden), device=hidden.device), last][:, None]
        return Step(hidden, out.past_key_values)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (b, width) to float32 logits (b, vocabulary)."""
        tensor: torch.Tensor = self._head(hidden)
        return tensor.float()

    def cache(self, layers: Layers | None = None, room: int = 0) -> Any:
        """A KV cache, empty or holding ``layers``, with ``room`` for that many positions more."""
        return make_cache(layers, self.layer_count, room)

    def join(self, caches: Sequence[Any], room: int) -> Any:
        """The rows of several caches of one length as one, with ``room`` for that many positions more."""
        return join(caches, room)

    def layers(self, cache: Any) -> Layers:
        """What a cache holds."""
        return tuple((layer.keys, layer.values) for layer in cache.layers)
